/** What a selection lights up on the map: boxes and cards, wholly or in part, and what they are connected to. */
import type { EdgeIndex } from "./edges";
import type { FlagStyle } from "./fusion_model";
import type { Tree, VisibleGraph } from "./visible";

export interface Highlight {
  /** Items of which every node is selected. */
  selected: Set<number>;
  /** Closed boxes of which some nodes are selected. */
  partial: Set<number>;
  /** The selected items and their neighbors; null where nothing is selected. */
  related: Set<number> | null;
  /** Keys of the edges at selected cards. */
  edges: Set<string>;
}

export function highlight(tree: Tree, visible: VisibleGraph, index: EdgeIndex, ids: readonly string[]): Highlight {
  const chosen = new Map<number, number>();
  for (const id of ids) {
    const item = tree.ofId.get(id);
    for (let at = item ?? -1; at >= 0; at = tree.items[at]!.parent) chosen.set(at, (chosen.get(at) ?? 0) + 1);
  }
  const selected = new Set<number>();
  const partial = new Set<number>();
  for (const item of visible.items) {
    const count = chosen.get(item) ?? 0;
    if (count === 0) continue;
    if (count >= tree.items[item]!.leaves) selected.add(item);
    else if (!visible.open.has(item)) partial.add(item);
  }
  const near = new Set<number>([...selected, ...partial]);
  const cards = [...near].filter((i) => !visible.open.has(i));
  const edges = new Set<string>();
  for (const item of cards) {
    for (const edge of [...index.out(item), ...index.in(item)]) {
      edges.add(edge.key);
      near.add(edge.source);
      near.add(edge.target);
    }
  }
  return { selected, partial, related: cards.length > 0 ? near : null, edges };
}

/** The flags of the visible items, from those of the nodes. */
export function flagsOf(tree: Tree, visible: VisibleGraph, flags: readonly (FlagStyle | null)[]): Map<number, FlagStyle> {
  const found = new Map<number, FlagStyle>();
  for (const item of visible.items) {
    const node = tree.items[item]!.node;
    const flag = node >= 0 ? flags[node] : null;
    if (flag) found.set(item, flag);
  }
  return found;
}
