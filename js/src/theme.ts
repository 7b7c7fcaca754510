/** The colors of the views, and whether the page is light or dark. */
import { kinds, precisions, themes } from "../../workbench/charts/palette.json";

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
  /** Distinct for people with any common color vision; never used without a letter code. */
  categories: string[];
  unknown: string;
}

/** Every color comes from the palette that the charts use too. */
const THEMES: Record<ThemeName, Omit<Palette, "name">> = themes;
export const PALETTES: Record<ThemeName, Palette> = { light: { name: "light", ...THEMES.light }, dark: { name: "dark", ...THEMES.dark } };

interface Named { light: string; dark: string; code?: string }
/** Kinds and precisions keep their color from one model to the next. */
const KINDS: Record<string, Named> = kinds;
const PRECISIONS: Record<string, Named> = precisions;

export function kindColors(palette: Palette, kinds: string[]): string[] {
  return named(palette, kinds, KINDS);
}

/** Colors of a categorical overlay. */
export function categoryColors(palette: Palette, overlay: string, names: string[]): string[] {
  return named(palette, names, overlay === "precision" ? PRECISIONS : {});
}

/** The color of each name; names without one get the colors of the palette in order. */
function named(palette: Palette, names: string[], known: Record<string, Named>): string[] {
  let next = 0;
  return names.map((name) => {
    const own = known[name.toLowerCase()];
    if (own !== undefined) return own[palette.name];
    return palette.categories[next++ % palette.categories.length]!;
  });
}

/** Two letters for each name, no two alike, so that color is never needed to read the map. */
export function letterCodes(names: string[]): string[] {
  const used = new Set<string>();
  return names.map((name) => {
    const known = KINDS[name.toLowerCase()]?.code;
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

/** The theme of a view: the one that was asked for, or that of the page. */
export function themeOf(at: Element, wanted: ThemeName | "auto" | null | undefined): ThemeName {
  return wanted && wanted !== "auto" ? wanted : detectTheme(at);
}

/** Follows the page between light and dark, unless one theme was asked for. Returns the way to stop. */
export function followTheme(at: Element, wanted: ThemeName | "auto" | null | undefined, changed: (theme: ThemeName) => void): () => void {
  return wanted && wanted !== "auto" ? () => undefined : watchTheme(at, changed);
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

export function channels(color: string): [number, number, number] {
  const n = parseInt(color.slice(1), 16);
  return [(n >> 16) & 255, (n >> 8) & 255, n & 255];
}

export function mix(a: string, b: string, share: number): string {
  const from = channels(a);
  const to = channels(b);
  const part = from.map((v, i) => Math.round(v + (to[i]! - v) * share));
  return `#${part.map((v) => v.toString(16).padStart(2, "0")).join("")}`;
}

/** Ground and ink of the letters that stand for a color. */
export function tile(palette: Palette, color: string): { ground: string; ink: string } {
  return { ground: mix(palette.card, color, palette.name === "light" ? 0.16 : 0.26), ink: mix(color, palette.text, 0.55) };
}

export function luminance(color: string): number {
  const [r, g, b] = channels(color).map((v) => {
    const s = v / 255;
    return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
