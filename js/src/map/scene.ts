/** The laid-out drawing as plain data: what the canvas, the minimap and the SVG writer share. */
import { textAt } from "../columns";
import type { Direction, LayoutRequest, LayoutResult } from "./layout";
import { measure, SUB_FONT, TITLE_FONT } from "../measure";
import type { GraphData } from "../types";
import { figures, plural } from "../units";
import type { Tree, VisibleEdge, VisibleGraph } from "./visible";

export interface Box { x: number; y: number; w: number; h: number }

export interface Card extends Box {
  item: number;
  open: boolean;
  group: boolean;
  depth: number;
  title: string;
  sub: string;
}

export interface SceneEdge extends VisibleEdge {
  points: number[];
  /** Point half way along, where its label sits. */
  mid: { x: number; y: number };
  label: string;
  /** Shares a line with others, so it is labelled only when it is meant. */
  rail: boolean;
}

export interface Scene {
  direction: Direction;
  frames: Card[];
  cards: Card[];
  byItem: Map<number, Card>;
  edges: SceneEdge[];
  width: number;
  height: number;
}

export const CARD_HEIGHT = 48;
/** Space left of the text: bar, badge and gaps. */
export const TEXT_LEFT = 42;
const MIN_WIDTH = 140;
const MAX_WIDTH = 264;
const SUB_MAX = 170;

export function words(data: GraphData, count: number): string {
  return plural(count, data.of === "layer" ? "layer" : "node");
}

export function subOf(data: GraphData, tree: Tree, item: number): string {
  const it = tree.items[item]!;
  return it.node >= 0 ? textAt(data.nodes.sub, it.node) : words(data, it.leaves);
}

function cardWidth(title: string, sub: string, group: boolean): number {
  const text = Math.max(measure(title, TITLE_FONT), Math.min(SUB_MAX, measure(sub, SUB_FONT)) + 46);
  const width = TEXT_LEFT + text + 14 + (group ? 18 : 0);
  return Math.ceil(Math.min(MAX_WIDTH, Math.max(MIN_WIDTH, width)) / 4) * 4;
}

/** What the layout needs to know; items keep the order of `visible.items`. */
export function layoutRequest(data: GraphData, tree: Tree, visible: VisibleGraph, direction: Direction): LayoutRequest {
  const place = new Map<number, number>();
  visible.items.forEach((item, i) => place.set(item, i));
  const request: LayoutRequest = { direction, width: [], height: [], parent: [], open: [], source: [], target: [] };
  for (const item of visible.items) {
    const it = tree.items[item]!;
    const open = visible.open.has(item);
    request.width.push(open ? Math.min(MAX_WIDTH, measure(it.label, TITLE_FONT) + 96) : cardWidth(it.label, subOf(data, tree, item), it.node < 0));
    request.height.push(CARD_HEIGHT);
    request.parent.push(it.parent < 0 ? -1 : place.get(it.parent)!);
    request.open.push(open ? 1 : 0);
  }
  for (const edge of visible.edges) {
    request.source.push(place.get(edge.source)!);
    request.target.push(place.get(edge.target)!);
  }
  return request;
}

export function buildScene(data: GraphData, tree: Tree, visible: VisibleGraph, result: LayoutResult, direction: Direction): Scene {
  const scene: Scene = { direction, frames: [], cards: [], byItem: new Map(), edges: [], width: result.totalWidth, height: result.totalHeight };
  visible.items.forEach((item, i) => {
    const it = tree.items[item]!;
    const open = visible.open.has(item);
    const card: Card = {
      item, open, group: it.node < 0, depth: it.depth, title: it.label, sub: subOf(data, tree, item),
      x: result.x[i]!, y: result.y[i]!, w: result.width[i]!, h: result.height[i]!,
    };
    scene.byItem.set(item, card);
    (open ? scene.frames : scene.cards).push(card);
  });
  visible.edges.forEach((edge, i) => {
    const points = result.points[i]!;
    scene.edges.push({ ...edge, points, mid: halfWay(points), label: edgeLabel(data, edge), rail: result.rail[i]! });
  });
  return scene;
}

/** One tensor in full; several are counted. */
export function edgeLabel(data: GraphData, edge: VisibleEdge): string {
  const tensors = new Set(edge.edges.map((e) => textAt(data.edges.tensor, e)));
  if (tensors.size > 1) return plural(tensors.size, "tensor");
  const e = edge.edges[0]!;
  return [textAt(data.edges.shape, e), textAt(data.edges.dtype, e), textAt(data.edges.format, e)].filter(Boolean).join(" · ");
}

export const CONVERSIONS = ["", "layout", "precision", "layout + precision"] as const;

export function halfWay(points: number[]): { x: number; y: number } {
  let total = 0;
  for (let k = 2; k < points.length; k += 2) total += Math.hypot(points[k]! - points[k - 2]!, points[k + 1]! - points[k - 1]!);
  let left = total / 2;
  for (let k = 2; k < points.length; k += 2) {
    const dx = points[k]! - points[k - 2]!;
    const dy = points[k + 1]! - points[k - 1]!;
    const part = Math.hypot(dx, dy);
    if (part >= left && part > 0) return { x: points[k - 2]! + (dx * left) / part, y: points[k - 1]! + (dy * left) / part };
    left -= part;
  }
  return { x: points[0] ?? 0, y: points[1] ?? 0 };
}

export function bounds(cards: Box[]): Box {
  let x0 = Infinity, y0 = Infinity, x1 = -Infinity, y1 = -Infinity;
  for (const c of cards) {
    x0 = Math.min(x0, c.x); y0 = Math.min(y0, c.y);
    x1 = Math.max(x1, c.x + c.w); y1 = Math.max(y1, c.y + c.h);
  }
  return cards.length ? { x: x0, y: y0, w: x1 - x0, h: y1 - y0 } : { x: 0, y: 0, w: 0, h: 0 };
}

/** What a search looks through beside an item's label: its shape, type and kind; nothing for a box. */
export function textOf(data: GraphData, tree: Tree, item: number): string {
  const { node } = tree.items[item]!;
  return node < 0 ? "" : `${subOf(data, tree, item)} ${data.kinds[data.nodes.kind[node]!] ?? ""}`;
}

/** How an item is listed: its label, and its id or else what is said below the label. */
export function describe(data: GraphData, tree: Tree, item: number): { label: string; sub: string } {
  const { label, id } = tree.items[item]!;
  return { label, sub: label === id ? subOf(data, tree, item) : id };
}

/** How many cards and nodes are shown, and how many of them are selected. */
export function countText(data: GraphData, shown: number, selected: number): string {
  const total = data.nodes.id.length;
  const count = shown === total ? words(data, total) : `${plural(shown, "card")} for ${words(data, total)}`;
  return selected ? `${figures(selected)} selected · ${count}` : count;
}
