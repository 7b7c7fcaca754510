/** Writes the drawing as SVG text, from the same positions and marks as the canvas. Pure. */
import type { FlagStyle } from "./fusion_model";
import { FAMILY, fit, fitMiddle, LABEL_FONT, measure, SUB_FONT, TITLE_FONT } from "../measure";
import type { Legend, Mark } from "./overlay";
import { type Card, CONVERSIONS, type Scene, TEXT_LEFT } from "./scene";
import { tile, type Palette } from "../theme";

export interface SvgInput {
  scene: Scene;
  marks: Map<number, Mark>;
  flags: Map<number, FlagStyle>;
  selected: Set<number>;
  palette: Palette;
  title: string;
  legend: Legend | null;
}

const MARGIN = 24;
const HEAD = 34;
const FOOT = 40;
const DASHES = ["", "6 4", "2 3", "9 3 2 3"];

export function escapeXml(text: string): string {
  // Control characters are not allowed in XML at all.
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "").replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

const n = (v: number): string => String(Math.round(v * 10) / 10);

function text(x: number, y: number, font: string, fill: string, content: string, anchor = "start"): string {
  const [weight, size] = font.split(" ");
  return `<text x="${n(x)}" y="${n(y)}" font-size="${parseFloat(size!)}" font-weight="${weight}" fill="${fill}"${anchor === "start" ? "" : ` text-anchor="${anchor}"`}>${escapeXml(content)}</text>`;
}

function rect(x: number, y: number, w: number, h: number, attributes: string): string {
  return `<rect x="${n(x)}" y="${n(y)}" width="${n(Math.max(0, w))}" height="${n(h)}" ${attributes}/>`;
}

export function writeSvg(input: SvgInput): { svg: string; width: number; height: number } {
  const { scene, palette, legend } = input;
  const width = Math.ceil(Math.max(scene.width, 420) + 2 * MARGIN);
  const height = Math.ceil(scene.height + 2 * MARGIN + HEAD + (legend ? FOOT : 0));
  const out: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="${escapeXml(FAMILY)}" role="img">`,
    `<title>${escapeXml(input.title)}</title>`,
    `<defs>${arrow("a", palette.edge)}${arrow("c", palette.amber)}<pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="2" height="5" fill="${palette.card}"/></pattern></defs>`,
    rect(0, 0, width, height, `fill="${palette.canvas}"`),
    text(MARGIN, MARGIN + 8, `600 15px`, palette.text, fit(input.title, `600 15px ${FAMILY}`, width - 2 * MARGIN)),
    `<g transform="translate(${n((width - scene.width) / 2)} ${MARGIN + HEAD})">`,
  ];
  for (const f of scene.frames) {
    out.push(rect(f.x, f.y, f.w, f.h, `rx="10" fill="${palette.frames[f.depth % palette.frames.length]}" stroke="${palette.frameLine}"`));
    out.push(text(f.x + 12, f.y + 21, TITLE_FONT, palette.text, fit(f.title, TITLE_FONT, f.w - 24)));
  }
  for (const e of scene.edges) {
    const color = e.conversion ? palette.amber : palette.edge;
    const points: string[] = [];
    for (let k = 0; k < e.points.length; k += 2) points.push(`${n(e.points[k]!)},${n(e.points[k + 1]!)}`);
    const dash = DASHES[e.conversion & 3];
    out.push(`<polyline points="${points.join(" ")}" fill="none" stroke="${color}" stroke-width="${e.conversion ? 2 : 1.25}" stroke-linejoin="round"${dash ? ` stroke-dasharray="${dash}"` : ""} marker-end="url(#${e.conversion ? "c" : "a"})"><title>${escapeXml(e.label)}</title></polyline>`);
  }
  for (const card of scene.cards) out.push(cardSvg(card, input));
  for (const e of scene.edges) {
    const name = CONVERSIONS[e.conversion & 3];
    if (!name) continue;
    const w = measure(name, LABEL_FONT) + 12;
    out.push(rect(e.mid.x - w / 2, e.mid.y - 7.5, w, 15, `rx="7.5" fill="${palette.amberSoft}" stroke="${palette.amber}"`));
    out.push(text(e.mid.x, e.mid.y + 3.5, LABEL_FONT, palette.amber, name, "middle"));
  }
  out.push("</g>");
  if (legend) out.push(legendSvg(legend, palette, MARGIN, height - MARGIN, width - 2 * MARGIN));
  out.push("</svg>");
  return { svg: out.join("\n"), width, height };
}

function arrow(id: string, color: string): string {
  return `<marker id="${id}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 .6L8 4L0 7.4z" fill="${color}"/></marker>`;
}

function cardSvg(card: Card, { marks, flags, selected, palette }: SvgInput): string {
  const mark = marks.get(card.item);
  if (!mark) return "";
  const { x, y, w, h } = card;
  const flag = flags.get(card.item);
  const chosen = selected.has(card.item);
  const out: string[] = [];
  const dash = flag?.border === "dashed" ? ' stroke-dasharray="5 4"' : flag?.border === "dotted" ? ' stroke-dasharray="1.5 3"' : "";
  if (card.group) out.push(rect(x + 6, y + 6, w - 12, h - 1.5, `rx="8" fill="${palette.card}" stroke="${palette.lineStrong}"`));
  if (flag?.border === "double") out.push(rect(x - 3, y - 3, w + 6, h + 6, `rx="11" fill="none" stroke="${palette.edgeStrong}"`));
  out.push(rect(x, y, w, h, `rx="8" fill="${palette.card}" stroke="${chosen ? palette.accent : flag ? palette.edgeStrong : palette.lineStrong}" stroke-width="${chosen ? 2 : 1}"${dash}`));
  out.push(rect(x + 1, y + 5, 4, h - 10, `rx="2" fill="${mark.color}"`));
  const { ground, ink } = tile(palette, mark.badge);
  out.push(rect(x + 13, y + 11, 22, 22, `rx="6" fill="${ground}"`));
  out.push(text(x + 24, y + 26, `600 10.5px`, ink, mark.code, "middle"));
  const space = w - TEXT_LEFT - 12 - (flag ? 18 : 0);
  out.push(text(x + TEXT_LEFT, y + 21, TITLE_FONT, palette.text, fitMiddle(card.title, TITLE_FONT, space)));
  const value = mark.text ? measure(mark.text, SUB_FONT) + 8 : 0;
  out.push(text(x + TEXT_LEFT, y + 36, SUB_FONT, palette.muted, fit(card.sub, SUB_FONT, w - TEXT_LEFT - 12 - value)));
  if (mark.text) out.push(text(x + w - 10, y + 36, SUB_FONT, palette.text, mark.text, "end"));
  if (mark.bar !== null) {
    const track = w - 20;
    const from = mark.diverging ? x + 10 + track / 2 + (Math.min(0, mark.bar) * track) / 2 : x + 10;
    const size = mark.diverging ? (Math.abs(mark.bar) * track) / 2 : mark.bar * track;
    out.push(rect(x + 10, y + h - 5, track, 3, `fill="${palette.line}"`));
    out.push(rect(from, y + h - 5, size, 3, `fill="${mark.color}"`));
    if (mark.hatched) out.push(rect(from, y + h - 5, size, 3, 'fill="url(#hatch)"'));
  }
  if (flag) {
    out.push(`<circle cx="${n(x + w - 15)}" cy="${n(y + 16.5)}" r="7.5" fill="${palette.text}"/>`);
    out.push(text(x + w - 15, y + 20, `700 9.5px`, palette.card, flag.letter, "middle"));
  }
  return `<g><title>${escapeXml(card.title)}</title>${out.join("")}</g>`;
}

function legendSvg(legend: Legend, palette: Palette, x: number, y: number, space: number): string {
  const out = [text(x, y - 14, `600 11px`, palette.muted, legend.label)];
  let at = x + measure(legend.label, `600 11px ${FAMILY}`) + 14;
  if (legend.type === "categorical") {
    for (const entry of legend.entries) {
      const w = measure(`${entry.code} ${entry.label}`, SUB_FONT) + 30;
      if (at + w > x + space) break;
      out.push(rect(at, y - 23, 11, 11, `rx="3" fill="${entry.color}"`), text(at + 16, y - 14, SUB_FONT, palette.text, `${entry.code} ${entry.label}`));
      at += w;
    }
    return out.join("");
  }
  legend.colors.forEach((c, i) => out.push(rect(at + i * 24, y - 23, 24, 11, `fill="${c}"`)));
  if (legend.source === "estimated") out.push(rect(at, y - 23, legend.colors.length * 24, 11, 'fill="url(#hatch)"'));
  out.push(text(at, y + 3, SUB_FONT, palette.muted, legend.low), text(at + legend.colors.length * 12, y + 3, SUB_FONT, palette.muted, legend.middle, "middle"), text(at + legend.colors.length * 24 - 4, y + 3, SUB_FONT, palette.muted, `${legend.high} · ${legend.source}`));
  return out.join("");
}
