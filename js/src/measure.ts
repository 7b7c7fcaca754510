/** Widths of text, and cutting it to fit. Works without a DOM, by a rule of thumb, for tests. */

export const FAMILY = 'Inter, "SF Pro Text", "Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans", sans-serif';
export const TITLE_FONT = `600 12.5px ${FAMILY}`;
export const SUB_FONT = `400 11px ${FAMILY}`;
export const LABEL_FONT = `500 10px ${FAMILY}`;

let context: CanvasRenderingContext2D | null | undefined;
const widths = new Map<string, number>();
/** Enough for every label of a large plan; beyond it the oldest half would be stale anyway. */
const LIMIT = 60_000;

export function measure(text: string, font: string): number {
  const key = font.charCodeAt(0) + font.slice(0, 12) + text;
  let width = widths.get(key);
  if (width === undefined) {
    if (context === undefined) context = typeof document === "undefined" ? null : document.createElement("canvas").getContext("2d");
    if (context) {
      context.font = font;
      width = context.measureText(text).width;
    } else {
      width = text.length * 0.56 * parseFloat(font.split(" ")[1] ?? "12");
    }
    if (widths.size > LIMIT) widths.clear();
    widths.set(key, width);
  }
  return width;
}

/** Cuts at the end, with an ellipsis. */
export function fit(text: string, font: string, space: number): string {
  const full = measure(text, font);
  if (full <= space) return text;
  let low = 0;
  let high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (measure(`${text.slice(0, middle)}…`, font) <= space) low = middle;
    else high = middle - 1;
  }
  return low === 0 ? "" : `${text.slice(0, low).trimEnd()}…`;
}

/** Cuts in the middle: layer names differ at both ends, and most often at the last one. */
export function fitMiddle(text: string, font: string, space: number): string {
  const full = measure(text, font);
  if (full <= space) return text;
  let keep = Math.max(1, Math.floor((text.length * space) / full) - 1);
  for (; keep > 1; keep--) {
    const head = Math.ceil(keep * 0.5);
    const cut = `${text.slice(0, head)}…${text.slice(text.length - (keep - head))}`;
    if (measure(cut, font) <= space) return cut;
  }
  return fit(text, font, space);
}
