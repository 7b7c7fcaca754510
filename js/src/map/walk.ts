/** Walking over the map with the arrow keys. */
import type { EdgeIndex } from "./edges";
import type { Direction } from "./layout";
import type { Box, Card, Scene } from "./scene";

/** Along an edge backward or forward, or across the flow. */
export type Way = "in" | "out" | "before" | "after";

/** The way that an arrow key means; undefined for other keys. */
export function wayOf(key: string, direction: Direction): Way | undefined {
  const ways: Record<string, Way> = direction === "TB"
    ? { ArrowDown: "out", ArrowUp: "in", ArrowLeft: "before", ArrowRight: "after" }
    : { ArrowRight: "out", ArrowLeft: "in", ArrowUp: "before", ArrowDown: "after" };
  return ways[key];
}

/** The nearest card on a way; the first card of the map where the walk begins; undefined where there is none. */
export function neighborOf(scene: Scene, edges: EdgeIndex, from: Card | undefined, way: Way, direction: Direction): number | undefined {
  const tb = direction === "TB";
  if (!from) return [...scene.cards].sort((a, b) => (tb ? a.y - b.y : a.x - b.x))[0]?.item;
  const mid = (b: Box): { along: number; across: number } => ({ along: tb ? b.y + b.h / 2 : b.x + b.w / 2, across: tb ? b.x + b.w / 2 : b.y + b.h / 2 });
  const here = mid(from);
  let candidates: number[];
  if (way === "out") candidates = edges.out(from.item).map((edge) => edge.target);
  else if (way === "in") candidates = edges.in(from.item).map((edge) => edge.source);
  else {
    const sign = way === "after" ? 1 : -1;
    candidates = scene.cards.filter((c) => (mid(c).across - here.across) * sign > 4 && Math.abs(mid(c).along - here.along) < (tb ? 120 : 280)).map((c) => c.item);
  }
  const weight = way === "in" || way === "out" ? 1 : 3;
  const cost = (i: number): number => {
    const there = mid(scene.byItem.get(i)!);
    return Math.abs(there.across - here.across) + Math.abs(there.along - here.along) * weight;
  };
  return candidates.sort((a, b) => cost(a) - cost(b))[0];
}
