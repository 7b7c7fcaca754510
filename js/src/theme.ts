/** Colours, and whether the page is light or dark. The one place that names a colour. */

export type ThemeName = "light" | "dark";

export interface Palette {
  name: ThemeName;
  /** Page behind the map, cards and panels on it. */
  bg: string; canvas: string; card: string; raised: string; hover: string;
  line: string; lineStrong: string;
  text: string; muted: string; faint: string;
  accent: string; accentSoft: string; onAccent: string;
  edge: string; edgeStrong: string;
  amber: string; amberSoft: string;
  danger: string; dangerSoft: string;
  /** Frames of open groups, by depth modulo their number. */
  frames: string[]; frameLine: string;
  shadow: string;
  /** Low to high. */
  sequential: string[];
  /** Below, middle, above. */
  diverging: string[];
  /** Told apart by people with any common colour vision; never used without a letter code. */
  categories: string[];
  unknown: string;
}

const LIGHT: Palette = {
  name: "light",
  bg: "#ffffff", canvas: "#f7f8fa", card: "#ffffff", raised: "#ffffff", hover: "#eef0f4",
  line: "#e1e4ea", lineStrong: "#c6cbd5",
  text: "#1b1f27", muted: "#596273", faint: "#69717f",
  accent: "#3b5bdb", accentSoft: "#e5eafc", onAccent: "#ffffff",
  edge: "#a9b1bf", edgeStrong: "#5b6474",
  amber: "#b45309", amberSoft: "#fef3dc",
  danger: "#b42318", dangerSoft: "#fdecea",
  frames: ["#f0f2f6", "#fafbfc"], frameLine: "#d5dae3",
  shadow: "rgba(23, 31, 48, 0.10)",
  sequential: ["#e3eefb", "#b3d3f4", "#74aee6", "#3782cf", "#1c58a8", "#0d3474"],
  diverging: ["#1f6fb4", "#86b7de", "#e4e6ea", "#efae7b", "#c2560f"],
  categories: ["#3f6fd8", "#d9822b", "#2a9d74", "#b8489d", "#8c6bd9", "#c9a227", "#3fa3c4", "#d2504f", "#7a8699", "#6f9a2f", "#a0643c", "#4d5a9e"],
  unknown: "#c3c9d3",
};

const DARK: Palette = {
  name: "dark",
  bg: "#16181d", canvas: "#121418", card: "#20242b", raised: "#23272f", hover: "#2b3039",
  line: "#2e343e", lineStrong: "#454d5b",
  text: "#e8eaef", muted: "#a3acbb", faint: "#8e97a7",
  accent: "#8aa4ff", accentSoft: "#2a3358", onAccent: "#10131a",
  edge: "#5b6472", edgeStrong: "#aeb7c6",
  amber: "#f0b04f", amberSoft: "#3a2e17",
  danger: "#ff8a80", dangerSoft: "#3d211f",
  frames: ["#191c22", "#1d2128"], frameLine: "#353c48",
  shadow: "rgba(0, 0, 0, 0.45)",
  sequential: ["#24364d", "#2b5480", "#3478b6", "#57a0df", "#93c6f2", "#d6eaff"],
  diverging: ["#5aa9ea", "#3a6286", "#474d57", "#96633a", "#f0a05c"],
  categories: ["#7ea2ff", "#f0a75b", "#58c9a0", "#e283c9", "#b49cf5", "#e3c65a", "#6fcbe6", "#f08885", "#a4b0c2", "#a3cc63", "#cf9a72", "#96a4ea"],
  unknown: "#4b5362",
};

export const PALETTES: Record<ThemeName, Palette> = { light: LIGHT, dark: DARK };

/** Kinds and precisions keep their colour from one model to the next; the same as in workbench/charts/plan.py, whose charts stand beside the maps. */
export const KIND_COLOUR: Record<string, string> = {
  conv: "#3b6fd4", gemm: "#5b50c8", attention: "#a3469e", pointwise: "#2f9e6e", norm: "#1f8a8a", softmax: "#57a639", reduction: "#7fae2e",
  pooling: "#2d9cc4", gather: "#8a6d3b", layout: "#d9902f", cast: "#c9622e", shape: "#9aa3ad", sync: "#b9c0c7", control: "#b9c0c7", foreign: "#6b7280", other: "#6b7280",
};
export const PRECISION_COLOUR: Record<string, string> = {
  fp32: "#8a94a3", fp16: "#2f9e6e", bf16: "#1f8a8a", int8: "#3b6fd4", fp8: "#a3469e", int4: "#5b50c8", int32: "#c0a15a", int64: "#c9a227", bool: "#b9c0c7",
};
/** How much lighter the same colour is on a dark page. */
const DARK_LIFT = 0.28;

const KIND_CODE: Record<string, string> = {
  conv: "Cv", gemm: "Mm", attention: "At", pointwise: "Pw", reduction: "Rd", pooling: "Po", norm: "No", layout: "Ly", cast: "Ca", softmax: "Sm", gather: "Ga", sync: "Sy",
};

export function kindColours(palette: Palette, kinds: string[]): string[] {
  return named(palette, kinds, KIND_COLOUR);
}

/** Colours of a categorical overlay. */
export function categoryColours(palette: Palette, overlay: string, names: string[]): string[] {
  return named(palette, names, overlay === "precision" ? PRECISION_COLOUR : {});
}

/** The colour of each name; names that have none of their own share out the palette in order. */
function named(palette: Palette, names: string[], known: Record<string, string>): string[] {
  let next = 0;
  return names.map((name) => {
    const own = known[name.toLowerCase()];
    if (own !== undefined) return palette.name === "light" ? own : mix(own, "#ffffff", DARK_LIFT);
    return palette.categories[next++ % palette.categories.length]!;
  });
}

/** Two letters for each name, no two alike, so that colour is never needed to read the map. */
export function letterCodes(names: string[]): string[] {
  const used = new Set<string>();
  return names.map((name) => {
    const known = KIND_CODE[name.toLowerCase()];
    const letters = name.replace(/[^A-Za-z0-9]/g, "") || "?";
    const options = known ? [known] : [];
    for (let second = 1; second < letters.length; second++) options.push(letters[0]!.toUpperCase() + letters[second]!);
    options.push(letters[0]!.toUpperCase());
    for (let k = 2; k < 100; k++) options.push(letters[0]!.toUpperCase() + String(k));
    const code = options.find((o) => !used.has(o)) ?? "?";
    used.add(code);
    return code;
  });
}

/** Asks every host we know how it says "dark", most specific first. */
export function detectTheme(at: Element): ThemeName {
  const body = document.body;
  const jupyter = body.getAttribute("data-jp-theme-light");
  if (jupyter !== null) return jupyter === "false" ? "dark" : "light";
  const code = body.getAttribute("data-vscode-theme-kind") ?? "";
  if (code.includes("dark") || (code.includes("high-contrast") && !code.includes("light"))) return "dark";
  if (code.includes("light")) return "light";
  const html = document.documentElement;
  const named = html.getAttribute("theme") ?? html.getAttribute("data-theme") ?? "";
  if (named === "dark" || named === "light") return named;
  const vscode = getComputedStyle(at).getPropertyValue("--vscode-editor-background").trim();
  if (/^#[0-9a-f]{6}$/i.test(vscode)) return luminance(vscode) < 0.4 ? "dark" : "light";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** Calls back whenever the page changes between light and dark. Returns the way to stop. */
export function watchTheme(at: Element, changed: (theme: ThemeName) => void): () => void {
  let last = detectTheme(at);
  const look = (): void => {
    const now = detectTheme(at);
    if (now === last) return;
    last = now;
    changed(now);
  };
  const observer = new MutationObserver(look);
  const attributeFilter = ["data-jp-theme-light", "data-jp-theme-name", "data-vscode-theme-kind", "theme", "data-theme", "class", "style"];
  observer.observe(document.body, { attributes: true, attributeFilter });
  observer.observe(document.documentElement, { attributes: true, attributeFilter });
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", look);
  return () => {
    observer.disconnect();
    media.removeEventListener("change", look);
  };
}

export function channels(colour: string): [number, number, number] {
  const n = parseInt(colour.slice(1), 16);
  return [(n >> 16) & 255, (n >> 8) & 255, n & 255];
}

export function mix(a: string, b: string, share: number): string {
  const from = channels(a);
  const to = channels(b);
  const part = from.map((v, i) => Math.round(v + (to[i]! - v) * share));
  return `#${part.map((v) => v.toString(16).padStart(2, "0")).join("")}`;
}

/** Ground and ink of the letters that stand for a colour. */
export function tile(palette: Palette, colour: string): { ground: string; ink: string } {
  return { ground: mix(palette.card, colour, palette.name === "light" ? 0.16 : 0.26), ink: mix(colour, palette.text, 0.55) };
}

export function luminance(colour: string): number {
  const [r, g, b] = channels(colour).map((v) => {
    const s = v / 255;
    return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
