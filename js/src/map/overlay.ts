/**
 * What colors the map: scales and legends. An overlay is a column, never a special case of the
 * renderer. Color is always doubled: a letter code for categories, a bar and a figure for numbers.
 */
import { categoryColors, kindColors, letterCodes, mix, type Palette } from "../theme";
import type { GraphData, Overlay, Source } from "../types";
import { formatValue } from "../units";
import { leavesOf, type Tree, type VisibleGraph } from "./visible";

export const KIND_OVERLAY = "kind";

/** How one card shows the overlay. */
export interface Mark {
  color: string;
  /** Letters in the badge: the category under a categorical overlay, the kind otherwise. */
  code: string;
  badge: string;
  /** Figure at the right of the second line; empty under a categorical overlay. */
  text: string;
  /** Length of the bar, 0 to 1; for a diverging overlay -1 to 1. Null: no bar. */
  bar: number | null;
  diverging: boolean;
  hatched: boolean;
  known: boolean;
  /** Shares of the categories in a closed group, largest first. */
  parts: { color: string; share: number }[];
}

export type Legend =
  | { type: "categorical"; label: string; source: Source | null; entries: { color: string; code: string; label: string; count: number }[] }
  | { type: "sequential" | "diverging"; label: string; source: Source; colors: string[]; low: string; /** At the middle of the ramp. */ middle: string; high: string; unknown: number };

export interface Painted {
  /** By item index; only visible cards are present. */
  marks: Map<number, Mark>;
  legend: Legend;
}

export function overlayNames(data: GraphData): { name: string; label: string }[] {
  return [{ name: KIND_OVERLAY, label: "Kind" }, ...data.overlays.filter((o) => o.name !== KIND_OVERLAY).map(({ name, label }) => ({ name, label }))];
}

export function paintOverlay(data: GraphData, name: string, tree: Tree, visible: VisibleGraph, palette: Palette): Painted {
  const overlay = data.overlays.find((o) => o.name === name && o.name !== KIND_OVERLAY);
  const cards = visible.items.filter((i) => !visible.open.has(i));
  const kind = categorical(data.nodes.kind, kindColors(palette, data.kinds), data.kinds, "Kind", null, tree, cards, palette);
  if (!overlay) return kind;
  if (overlay.type === "categorical") {
    const names = overlay.categories ?? [];
    return categorical(overlay.values, categoryColors(palette, overlay.name, names), names, overlay.label, overlay.source, tree, cards, palette);
  }
  return numeric(overlay, tree, cards, palette, kind.marks);
}

function categorical(
  values: (number | null)[], colors: string[], names: string[], label: string, source: Source | null,
  tree: Tree, cards: number[], palette: Palette,
): Painted {
  const codes = letterCodes(names);
  const marks = new Map<number, Mark>();
  for (const card of cards) {
    const counts = new Map<number, number>();
    const leaves = leavesOf(tree, card);
    for (const leaf of leaves) {
      const v = values[leaf];
      const c = v === null || v === undefined || v < 0 || v >= names.length ? -1 : v;
      counts.set(c, (counts.get(c) ?? 0) + 1);
    }
    const order = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    const main = order[0]?.[0] ?? -1;
    const color = colors[main] ?? palette.unknown;
    marks.set(card, {
      color, code: codes[main] ?? "?", badge: color, text: "", bar: null,
      diverging: false, hatched: source === "estimated", known: main >= 0,
      parts: tree.items[card]!.node >= 0 ? [] : order.map(([c, count]) => ({ color: colors[c] ?? palette.unknown, share: count / leaves.length })),
    });
  }
  const total = new Map<number, number>();
  let unknown = 0;
  for (const v of values) {
    if (v === null || v < 0 || v >= names.length) unknown++;
    else total.set(v, (total.get(v) ?? 0) + 1);
  }
  const entries = names
    .map((n, i) => ({ color: colors[i]!, code: codes[i]!, label: n, count: total.get(i) ?? 0 }))
    .filter((e) => e.count > 0);
  if (unknown > 0) entries.push({ color: palette.unknown, code: "?", label: "not known", count: unknown });
  return { marks, legend: { type: "categorical", label, source, entries } };
}

const howOf = (overlay: Overlay): NonNullable<Overlay["aggregate"]> => overlay.aggregate ?? (overlay.type === "diverging" ? "mean" : "sum");

/** Value of a group; null where none of its nodes has one. */
export function aggregate(overlay: Overlay, leaves: number[]): number | null {
  const how = howOf(overlay);
  let sum = 0, count = 0, max = -Infinity;
  for (const leaf of leaves) {
    const v = overlay.values[leaf];
    if (v === null || v === undefined) continue;
    sum += v;
    count++;
    if (v > max) max = v;
  }
  if (count === 0) return null;
  return how === "sum" ? sum : how === "mean" ? sum / count : max;
}

/** A group's value as text: a sum with unknown parts is a lower bound. */
export function aggregateText(overlay: Overlay, leaves: number[]): string {
  const value = aggregate(overlay, leaves);
  const least = howOf(overlay) === "sum" && leaves.some((leaf) => overlay.values[leaf] === null);
  if (value === null || (least && value === 0)) return "–";
  return (least ? "≥ " : "") + formatValue(value, overlay.unit, overlay.source);
}

function numeric(overlay: Overlay, tree: Tree, cards: number[], palette: Palette, kinds: Map<number, Mark>): Painted {
  const diverging = overlay.type === "diverging";
  const values = new Map(cards.map((c) => [c, aggregate(overlay, leavesOf(tree, c))]));
  const known = [...values.values()].filter((v): v is number => v !== null && Number.isFinite(v));
  const [low, high] = domain(known, diverging);
  const colors = diverging ? palette.diverging : palette.sequential;
  const hatched = overlay.source === "estimated";
  const marks = new Map<number, Mark>();
  for (const card of cards) {
    const value = values.get(card) ?? null;
    const kind = kinds.get(card)!;
    const share = value === null ? null : position(value, low, high);
    marks.set(card, {
      color: share === null ? palette.unknown : ramp(colors, diverging ? share : spread(share)),
      code: kind.code, badge: kind.badge,
      text: aggregateText(overlay, leavesOf(tree, card)),
      bar: share === null ? null : diverging ? share * 2 - 1 : share,
      diverging, hatched, known: share !== null, parts: [],
    });
  }
  return {
    marks,
    legend: {
      type: diverging ? "diverging" : "sequential", label: overlay.label, source: overlay.source, colors,
      low: formatValue(low, overlay.unit), middle: formatValue(diverging ? 0 : low + (high - low) / 4, overlay.unit), high: formatValue(high, overlay.unit),
      unknown: overlay.values.filter((v) => v === null).length,
    },
  };
}

/** From zero for amounts; symmetric about zero for differences. */
export function domain(values: number[], diverging: boolean): [number, number] {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (values.length === 0) return diverging ? [-1, 1] : [0, 1];
  if (diverging) {
    const reach = Math.max(Math.abs(low), Math.abs(high)) || 1;
    return [-reach, reach];
  }
  const from = Math.min(0, low);
  return high > from ? [from, high] : [from, from + 1];
}

export function position(value: number, low: number, high: number): number {
  return Math.min(1, Math.max(0, (value - low) / (high - low)));
}

/**
 * Times and bytes have a few large values and many small ones; a square root keeps the small ones
 * apart. Only the color is spread: the bar stays proportional, and the legend names the middle.
 */
export function spread(share: number): number {
  return Math.sqrt(share);
}

export function ramp(colors: string[], share: number): string {
  const at = share * (colors.length - 1);
  const from = Math.min(colors.length - 2, Math.floor(at));
  return mix(colors[from]!, colors[from + 1]!, at - from);
}
