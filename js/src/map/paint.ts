/**
 * Draws frames, cards and edge labels on a canvas. The two canvases lie under and over the one
 * that cytoscape draws the edges on; all three share one camera.
 */
import type { FlagStyle } from "./fusion_model";
import { FAMILY, fit, fitMiddle, LABEL_FONT, measure, SUB_FONT, TITLE_FONT } from "../measure";
import type { Mark } from "./overlay";
import { type Box, type Card, CONVERSIONS, type Scene, TEXT_LEFT } from "./scene";
import { mix, tile, type Palette } from "../theme";

export interface Camera { x: number; y: number; zoom: number }

/** Items by state. `related` null means that nothing is dimmed. */
export interface PaintState {
  selected: Set<number>;
  partial: Set<number>;
  lit: Set<number>;
  matches: Set<number>;
  related: Set<number> | null;
  /** Edges (keys) whose labels are shown whatever the zoom. */
  linked: Set<string>;
  hover: number;
  cursor: number;
  marks: Map<number, Mark>;
  flags: Map<number, FlagStyle>;
}

export const RADIUS = 8;
/** Below this size on screen, text of the normal size cannot be read. */
const READABLE = 9;
const DIM = 0.42;

export interface View { ctx: CanvasRenderingContext2D; width: number; height: number; ratio: number; camera: Camera }

function begin({ ctx, width, height, ratio, camera }: View): Box {
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.clearRect(0, 0, width * ratio, height * ratio);
  ctx.setTransform(camera.zoom * ratio, 0, 0, camera.zoom * ratio, camera.x * ratio, camera.y * ratio);
  ctx.textBaseline = "middle";
  return { x: -camera.x / camera.zoom, y: -camera.y / camera.zoom, w: width / camera.zoom, h: height / camera.zoom };
}

export function overlaps(a: Box, b: Box, margin = 0): boolean {
  return a.x < b.x + b.w + margin && b.x < a.x + a.w + margin && a.y < b.y + b.h + margin && b.y < a.y + a.h + margin;
}

export function paintFrames(view: View, scene: Scene, state: PaintState, palette: Palette): void {
  const shown = begin(view);
  const { ctx, camera } = view;
  for (const f of scene.frames) {
    if (!overlaps(f, shown)) continue;
    ctx.globalAlpha = 1;
    ctx.fillStyle = palette.frames[f.depth % palette.frames.length]!;
    ctx.strokeStyle = state.selected.has(f.item) ? palette.accent : state.cursor === f.item ? palette.accent : palette.frameLine;
    ctx.lineWidth = (state.selected.has(f.item) ? 2 : 1) / Math.min(1, camera.zoom);
    rounded(ctx, f, 10);
    ctx.fill();
    ctx.stroke();
  }
}

/** Over the edges, so that none runs through the words. A title stays in view while its frame is scrolled past. */
function paintTitles(ctx: CanvasRenderingContext2D, scene: Scene, state: PaintState, palette: Palette, zoom: number, shown: Box): void {
  if (12.5 * zoom < 4) return;
  // Larger when far away, as far as the strip allows.
  const size = Math.min(19, Math.max(12.5, 10 / zoom));
  const grow = size / 12.5;
  for (const f of scene.frames) {
    if (!overlaps(f, shown)) continue;
    const left = Math.min(Math.max(f.x, shown.x) + 12, f.x + f.w - 60);
    const space = f.x + f.w - left - 30;
    const title = fit(f.title, TITLE_FONT, space / grow);
    const used = measure(title, TITLE_FONT) * grow;
    const sub = measure(f.sub, SUB_FONT) * grow;
    const withSub = space - used > sub + 12;
    ctx.fillStyle = palette.frames[f.depth % palette.frames.length]!;
    ctx.fillRect(left - 4, f.y + 6, 24 + used + (withSub ? sub + 8 : 0), 23);
    chevron(ctx, left + 4, f.y + 17, true, palette.muted);
    ctx.font = `600 ${size}px ${FAMILY}`;
    ctx.fillStyle = state.selected.has(f.item) ? palette.accent : palette.text;
    ctx.fillText(title, left + 16, f.y + 17.5);
    if (withSub) {
      ctx.font = `400 ${11 * grow}px ${FAMILY}`;
      ctx.fillStyle = palette.faint;
      ctx.fillText(f.sub, left + 16 + used + 8, f.y + 18);
    }
  }
}

export function paintCards(view: View, scene: Scene, state: PaintState, palette: Palette): void {
  const shown = begin(view);
  const { ctx, camera } = view;
  const near = 12.5 * camera.zoom >= READABLE;
  paintTitles(ctx, scene, state, palette, camera.zoom, shown);
  for (const card of scene.cards) {
    if (!overlaps(card, shown, 12)) continue;
    const mark = state.marks.get(card.item);
    if (!mark) continue;
    ctx.globalAlpha = state.related && !state.related.has(card.item) && !state.lit.has(card.item) ? DIM : 1;
    if (near) paintNear(ctx, card, mark, state, palette);
    else paintFar(ctx, card, mark, state, palette, camera.zoom);
  }
  ctx.globalAlpha = 1;
  paintEdgeLabels(ctx, scene, state, palette, camera.zoom, shown);
}

function outline(card: Card, state: PaintState, palette: Palette): { color: string; width: number; glow: boolean; dash: number[] } {
  const flag = state.flags.get(card.item);
  const dash = flag?.border === "dashed" ? [5, 4] : flag?.border === "dotted" ? [1.5, 3] : [];
  if (state.selected.has(card.item)) return { color: palette.accent, width: 2, glow: true, dash };
  if (state.lit.has(card.item)) return { color: palette.accent, width: 2, glow: true, dash };
  if (state.partial.has(card.item)) return { color: palette.accent, width: 2, glow: false, dash: [6, 3] };
  if (state.cursor === card.item) return { color: palette.accent, width: 1.5, glow: false, dash };
  if (state.matches.has(card.item)) return { color: palette.amber, width: 2, glow: false, dash };
  if (state.hover === card.item) return { color: palette.edgeStrong, width: 1.25, glow: false, dash };
  return { color: flag ? palette.edgeStrong : palette.lineStrong, width: flag ? 1.5 : 1, glow: false, dash };
}

function paintNear(ctx: CanvasRenderingContext2D, card: Card, mark: Mark, state: PaintState, palette: Palette): void {
  const { x, y, w, h } = card;
  const line = outline(card, state, palette);
  const fill = state.selected.has(card.item) ? mix(palette.card, palette.accentSoft, 0.75) : state.lit.has(card.item) ? palette.accentSoft : palette.card;
  if (line.glow) {
    ctx.fillStyle = palette.accent;
    const before = ctx.globalAlpha;
    ctx.globalAlpha = before * 0.2;
    rounded(ctx, { x: x - 4, y: y - 4, w: w + 8, h: h + 8 }, RADIUS + 4);
    ctx.fill();
    ctx.globalAlpha = before;
  }
  if (card.group) {
    // A closed group looks like a stack of cards.
    ctx.fillStyle = palette.card;
    ctx.strokeStyle = palette.lineStrong;
    ctx.lineWidth = 1;
    rounded(ctx, { x: x + 6, y: y + 6, w: w - 12, h: h - 1.5 }, RADIUS);
    ctx.fill();
    ctx.stroke();
  } else {
    ctx.fillStyle = palette.shadow;
    rounded(ctx, { x, y: y + 1.5, w, h }, RADIUS);
    ctx.fill();
  }
  ctx.fillStyle = fill;
  rounded(ctx, card, RADIUS);
  ctx.fill();

  ctx.save();
  ctx.clip();
  ctx.fillStyle = mark.color;
  ctx.fillRect(x, y, 5, h);
  if (mark.hatched) hatch(ctx, { x, y, w: 5, h }, fill);
  if (mark.bar !== null) {
    const track = { x: x + 5, y: y + h - 4, w: w - 5, h: 4 };
    ctx.fillStyle = palette.line;
    ctx.fillRect(track.x, track.y, track.w, track.h);
    ctx.fillStyle = mark.color;
    const bar = mark.diverging
      ? { ...track, x: track.x + track.w / 2 + Math.min(0, mark.bar) * track.w / 2, w: Math.abs(mark.bar) * track.w / 2 }
      : { ...track, w: Math.max(mark.bar > 0 ? 2 : 0, mark.bar * track.w) };
    ctx.fillRect(bar.x, bar.y, bar.w, bar.h);
    if (mark.hatched) hatch(ctx, bar, fill);
    if (mark.diverging) {
      ctx.fillStyle = palette.edgeStrong;
      ctx.fillRect(track.x + track.w / 2 - 0.5, track.y - 1, 1, track.h + 1);
    }
  } else if (mark.parts.length > 0) {
    let at = x + 5;
    for (const part of mark.parts) {
      ctx.fillStyle = part.color;
      ctx.fillRect(at, y + h - 4, part.share * (w - 5), 4);
      at += part.share * (w - 5);
    }
  }
  ctx.restore();

  ctx.strokeStyle = line.color;
  ctx.lineWidth = line.width;
  ctx.setLineDash(line.dash);
  rounded(ctx, card, RADIUS);
  ctx.stroke();
  ctx.setLineDash([]);
  const flag = state.flags.get(card.item);
  if (flag?.border === "double") {
    ctx.lineWidth = 1;
    rounded(ctx, { x: x - 3, y: y - 3, w: w + 6, h: h + 6 }, RADIUS + 3);
    ctx.stroke();
  }

  badge(ctx, x + 13, y + 11, mark, palette);
  const right = card.group ? 20 : 12;
  const space = w - TEXT_LEFT - right - (flag ? 14 : 0);
  ctx.font = TITLE_FONT;
  ctx.fillStyle = palette.text;
  ctx.fillText(fitMiddle(card.title, TITLE_FONT, space), x + TEXT_LEFT, y + 16.5);
  ctx.font = SUB_FONT;
  let subSpace = w - TEXT_LEFT - 12;
  if (mark.text) {
    ctx.fillStyle = palette.text;
    const width = measure(mark.text, SUB_FONT);
    ctx.fillText(mark.text, x + w - 10 - width, y + 32.5);
    subSpace -= width + 8;
  }
  ctx.fillStyle = palette.muted;
  if (subSpace > 22) ctx.fillText(fit(card.sub, SUB_FONT, subSpace), x + TEXT_LEFT, y + 32.5);
  if (card.group) chevron(ctx, x + w - 14, y + 16.5, false, state.hover === card.item ? palette.text : palette.faint);
  if (flag) flagDot(ctx, x + w - (card.group ? 30 : 15), y + 16.5, flag, palette);
}

/** Far away a card is a colored tile, with as much of its name as can be read. */
function paintFar(ctx: CanvasRenderingContext2D, card: Card, mark: Mark, state: PaintState, palette: Palette, zoom: number): void {
  const line = outline(card, state, palette);
  const strong = line.glow || state.matches.has(card.item) || state.partial.has(card.item);
  ctx.fillStyle = mix(palette.card, mark.color, 0.28);
  ctx.fillRect(card.x, card.y, card.w, card.h);
  ctx.fillStyle = mark.color;
  ctx.fillRect(card.x, card.y, Math.max(5, 3 / zoom), card.h);
  if (strong || card.h * zoom > 6) {
    ctx.strokeStyle = strong ? line.color : palette.lineStrong;
    ctx.lineWidth = (strong ? 2 : 0.75) / zoom;
    ctx.strokeRect(card.x, card.y, card.w, card.h);
  }
  if (card.h * zoom < 13) return;
  const size = 10 / zoom;
  const full = measure(card.title, TITLE_FONT) * (size / 12.5);
  const space = card.w - 16 / zoom;
  const letters = full <= space ? card.title.length : Math.floor((card.title.length * space) / full) - 1;
  if (letters < 3) return;
  ctx.font = `600 ${size}px ${FAMILY}`;
  ctx.fillStyle = palette.text;
  const title = letters >= card.title.length ? card.title : `${card.title.slice(0, Math.ceil(letters / 2))}…${card.title.slice(card.title.length - Math.floor(letters / 2))}`;
  ctx.fillText(title, card.x + 8 / zoom, card.y + card.h / 2);
}

function badge(ctx: CanvasRenderingContext2D, x: number, y: number, mark: Mark, palette: Palette): void {
  const box = { x, y, w: 22, h: 22 };
  const { ground, ink } = tile(palette, mark.badge);
  ctx.fillStyle = ground;
  rounded(ctx, box, 6);
  ctx.fill();
  ctx.font = `600 10.5px ${FAMILY}`;
  ctx.fillStyle = ink;
  ctx.textAlign = "center";
  ctx.fillText(mark.code, x + 11, y + 11.5);
  ctx.textAlign = "left";
}

function flagDot(ctx: CanvasRenderingContext2D, x: number, y: number, flag: FlagStyle, palette: Palette): void {
  ctx.fillStyle = palette.text;
  ctx.beginPath();
  ctx.arc(x, y, 7.5, 0, Math.PI * 2);
  ctx.fill();
  ctx.fillStyle = palette.card;
  ctx.font = `700 9.5px ${FAMILY}`;
  ctx.textAlign = "center";
  ctx.fillText(flag.letter, x, y + 0.5);
  ctx.textAlign = "left";
}

function chevron(ctx: CanvasRenderingContext2D, x: number, y: number, down: boolean, color: string): void {
  ctx.strokeStyle = color;
  ctx.lineWidth = 1.6;
  ctx.beginPath();
  if (down) { ctx.moveTo(x - 4, y - 2); ctx.lineTo(x, y + 2.5); ctx.lineTo(x + 4, y - 2); }
  else { ctx.moveTo(x - 2, y - 4); ctx.lineTo(x + 2.5, y); ctx.lineTo(x - 2, y + 4); }
  ctx.stroke();
}

export function rounded(ctx: CanvasRenderingContext2D, b: Box, r: number): void {
  ctx.beginPath();
  ctx.roundRect(b.x, b.y, b.w, b.h, r);
}

/** Diagonal strokes: an estimate. */
export function hatch(ctx: CanvasRenderingContext2D, b: Box, color: string): void {
  ctx.save();
  ctx.beginPath();
  ctx.rect(b.x, b.y, b.w, b.h);
  ctx.clip();
  ctx.strokeStyle = color;
  ctx.lineWidth = 1.5;
  ctx.beginPath();
  for (let d = -b.h; d < b.w; d += 5) {
    ctx.moveTo(b.x + d, b.y + b.h);
    ctx.lineTo(b.x + d + b.h, b.y);
  }
  ctx.stroke();
  ctx.restore();
}

/** Labels where there is room: one that would cover a card or another label is left out. */
function paintEdgeLabels(ctx: CanvasRenderingContext2D, scene: Scene, state: PaintState, palette: Palette, zoom: number, shown: Box): void {
  const all = zoom >= 0.85;
  if (zoom < 0.3) return;
  const taken: Box[] = [];
  const cards = scene.cards.filter((c) => overlaps(c, shown));
  const order = [...scene.edges].filter((e) => overlaps({ x: e.mid.x, y: e.mid.y, w: 0, h: 0 }, shown, 60));
  const weight = (key: string, conversion: number): number => (state.linked.has(key) ? 0 : conversion ? 1 : 2);
  order.sort((a, b) => weight(a.key, a.conversion) - weight(b.key, b.conversion));
  for (const edge of order) {
    const linked = state.linked.has(edge.key);
    if ((!all || edge.rail) && !linked && !edge.conversion) continue;
    const name = CONVERSIONS[edge.conversion & 3]!;
    const dim = state.related && !linked;
    ctx.globalAlpha = dim ? DIM : 1;
    ctx.font = LABEL_FONT;
    if (!all && !linked) {
      diamond(ctx, edge.mid.x, edge.mid.y, 4.5 / Math.max(zoom, 0.55), palette);
      continue;
    }
    const chip = name ? measure(name, LABEL_FONT) + 12 : 0;
    const text = edge.label ? measure(edge.label, LABEL_FONT) + 10 : 0;
    const scale = linked ? Math.max(1, 0.9 / zoom) : 1;
    const place = freePlace(edge.mid, (chip + text) * scale, 16 * scale, taken, cards) ??
      (chip ? freePlace(edge.mid, chip * scale, 16 * scale, taken, cards) : null);
    if (!place) {
      if (edge.conversion) diamond(ctx, edge.mid.x, edge.mid.y, 4.5, palette);
      continue;
    }
    taken.push(place);
    ctx.save();
    ctx.translate(place.x, place.y);
    ctx.scale(scale, scale);
    if (chip) {
      ctx.fillStyle = palette.amberSoft;
      ctx.strokeStyle = palette.amber;
      ctx.lineWidth = 1;
      rounded(ctx, { x: 0, y: 0.5, w: chip, h: 15 }, 7.5);
      ctx.fill();
      ctx.stroke();
      ctx.fillStyle = palette.amber;
      ctx.fillText(name, 6, 8.5);
    }
    if (text && place.w >= (chip + text) * scale - 1) {
      ctx.fillStyle = palette.canvas;
      const before = ctx.globalAlpha;
      ctx.globalAlpha = before * 0.9;
      rounded(ctx, { x: chip, y: 0, w: text, h: 16 }, 4);
      ctx.fill();
      ctx.globalAlpha = before;
      ctx.fillStyle = linked ? palette.accent : palette.muted;
      ctx.fillText(edge.label, chip + 5, 8.5);
    }
    ctx.restore();
  }
  ctx.globalAlpha = 1;
}

function freePlace(mid: { x: number; y: number }, w: number, h: number, taken: Box[], cards: Box[]): Box | null {
  for (const [dx, dy] of [[-w / 2, -h / 2], [6, -h / 2], [-w - 6, -h / 2]] as const) {
    const box = { x: mid.x + dx, y: mid.y + dy, w, h };
    if (!taken.some((t) => overlaps(t, box, 3)) && !cards.some((c) => overlaps(c, box, 1))) return box;
  }
  return null;
}

function diamond(ctx: CanvasRenderingContext2D, x: number, y: number, r: number, palette: Palette): void {
  ctx.fillStyle = palette.amber;
  ctx.beginPath();
  ctx.moveTo(x, y - r); ctx.lineTo(x + r, y); ctx.lineTo(x, y + r); ctx.lineTo(x - r, y);
  ctx.fill();
}
