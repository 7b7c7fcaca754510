/** Saving the map as PNG or SVG: the menu, and the picture. */
import { button, download, h, type Scope } from "../dom";

export interface Drawing { svg: string; width: number; height: number }

export interface SaveParams {
  /** Of the map; files are named after it. */
  title: string;
  svg(): Drawing;
  scope: Scope;
  done(message: string): void;
  failed(error: unknown): void;
  /** Called before an action, and with true where the menu was closed without one. */
  close(back: boolean): void;
}

/** The menu, and its first button, which gets the focus. */
export function saveMenu(params: SaveParams): { panel: HTMLElement; first: HTMLElement } {
  const { title, svg, scope, done, failed, close } = params;
  const name = title.replace(/[^\w.-]+/g, "-").replace(/^-+|-+$/g, "") || "graph";
  const make = (text: string, fn: () => Promise<void>): HTMLButtonElement => {
    const b = h("button", { type: "button", class: "wb-button wb-line" }, text);
    b.addEventListener("click", scope.guard("export", () => {
      close(false);
      fn().catch(failed);
    }));
    return b;
  };
  const closer = button("close", "Close");
  closer.addEventListener("click", () => close(true));
  const first = make("Download PNG", async () => download(`${name}.png`, await png(svg())));
  const panel = h("div", { class: "wb-panel", role: "dialog", "aria-label": "Save the map" }, first,
    make("Download SVG", async () => download(`${name}.svg`, new Blob([svg().svg], { type: "image/svg+xml" }))),
    make("Copy PNG", async () => {
      needClipboard();
      await navigator.clipboard.write([new ClipboardItem({ "image/png": await png(svg()) })]);
      done("Copied the map as PNG");
    }),
    make("Copy SVG", async () => {
      needClipboard();
      await navigator.clipboard.writeText(svg().svg);
      done("Copied the map as SVG");
    }), closer);
  return { panel, first };
}

async function png({ svg, width, height }: Drawing): Promise<Blob> {
  // Browsers refuse canvases much larger than this on a side or in all.
  const scale = Math.min(2, 16_000 / Math.max(width, height), Math.sqrt(100_000_000 / (width * height)));
  const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = h("canvas", { width: Math.max(1, Math.floor(width * scale)), height: Math.max(1, Math.floor(height * scale)) });
    canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) => canvas.toBlob((b) => (b ? resolve(b) : reject(new Error("The map is too large for a PNG. Save it as SVG."))), "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Browsers offer the clipboard to https pages and to localhost only. */
function needClipboard(): void {
  if (!("clipboard" in navigator) || typeof ClipboardItem === "undefined") {
    throw new Error("This page may not write to the clipboard, as it is not served over https. Download the file instead.");
  }
}
