/**
 * What is on screen: the tree of groups, and the graph that remains when groups are closed.
 * Pure; the rest of the front end draws what this file says.
 */
import { textAt } from "../columns";
import type { GraphData, Grouping } from "../types";

/** A level with more children than this is cut into blocks of consecutive layers. */
export const MAX_CHILDREN = 400;
/** Above this many visible items the reader is asked first. */
export const ASK_ABOVE = 1500;

export interface Item {
  index: number;
  /** Group id, or node id. */
  id: string;
  label: string;
  /** Index of the node in the data, or -1 for a group. */
  node: number;
  parent: number;
  /** Item indices, in the order of the data. Empty for nodes. */
  children: number[];
  depth: number;
  /** Nodes within (1 for a node). */
  leaves: number;
  /** First node within: what keeps children in execution order. */
  first: number;
}

export interface Tree {
  items: Item[];
  roots: number[];
  /** Item of each node. */
  ofNode: number[];
  /** Item of each group id. */
  ofGroup: Map<string, number>;
  /** Item of each node id. */
  ofId: Map<string, number>;
}

export interface VisibleEdge {
  key: string;
  /** Item indices. */
  source: number;
  target: number;
  /** Edges of the data that this one stands for. */
  edges: number[];
  /** Bitwise or of their conversions. */
  conversion: number;
}

export interface VisibleGraph {
  /** Visible items, open groups before their children. */
  items: number[];
  open: Set<number>;
  /** For each item: itself or the nearest visible ancestor; -1 for what lies above. */
  shownAs: Int32Array;
  edges: VisibleEdge[];
  /** Visible items that are not open groups. */
  cards: number;
}

export const NO_GROUPING = "none";

export function groupingOf(data: GraphData, name: string): Grouping | null {
  if (name === NO_GROUPING) return null;
  return data.groupings.find((g) => g.name === name) ?? data.groupings[0] ?? null;
}

/** Nests the nodes as a grouping says. Groups without nodes are left out. */
export function buildTree(data: GraphData, grouping: Grouping | null, maxChildren = MAX_CHILDREN): Tree {
  const n = data.nodes.id.length;
  const items: Item[] = [];
  const ofGroup = new Map<string, number>();
  const ofId = new Map<string, number>();
  const ofNode = new Array<number>(n);
  const add = (id: string, label: string, node: number, parent: number): Item => {
    const item: Item = {
      index: items.length, id, label, node, parent, children: [], depth: 0,
      leaves: node >= 0 ? 1 : 0, first: node >= 0 ? node : Number.MAX_SAFE_INTEGER,
    };
    items.push(item);
    return item;
  };

  const groups = grouping ? grouping.group.id.length : 0;
  for (let g = 0; g < groups; g++) {
    const id = grouping!.group.id[g]!;
    ofGroup.set(id, add(id, textAt(grouping!.group.label, g) || id, -1, grouping!.group.parent[g] ?? -1).index);
  }
  breakCycles(items);
  for (let i = 0; i < n; i++) {
    const id = data.nodes.id[i]!;
    const item = add(id, textAt(data.nodes.label, i) || id, i, grouping ? (grouping.of[i] ?? -1) : -1);
    ofNode[i] = item.index;
    ofId.set(id, item.index);
    for (let up = item.parent; up >= 0; up = items[up]!.parent) {
      items[up]!.leaves++;
      items[up]!.first = Math.min(items[up]!.first, i);
    }
  }
  const roots: number[] = [];
  for (const item of items) {
    if (item.leaves === 0) continue;
    if (item.parent < 0) roots.push(item.index);
    else items[item.parent]!.children.push(item.index);
  }
  const tree: Tree = { items, roots, ofNode, ofGroup, ofId };
  const inOrder = (a: number, b: number): number => items[a]!.first - items[b]!.first;
  tree.roots = blocks(tree, roots.sort(inOrder), -1, maxChildren);
  for (let i = 0; i < groups; i++) {
    const item = items[i]!;
    item.children = blocks(tree, item.children.sort(inOrder), i, maxChildren);
  }
  const walk = (list: number[], depth: number): void => {
    for (const i of list) {
      items[i]!.depth = depth;
      walk(items[i]!.children, depth + 1);
    }
  };
  walk(tree.roots, 0);
  return tree;
}

/** A parent chain that bites its own tail would hang every walk; the link is cut instead. */
function breakCycles(items: Item[]): void {
  const state = new Uint8Array(items.length);
  for (const start of items) {
    let at = start.index;
    const path: number[] = [];
    while (at >= 0 && state[at] === 0) {
      state[at] = 1;
      path.push(at);
      at = items[at]!.parent;
    }
    if (at >= 0 && state[at] === 1) items[at]!.parent = -1;
    for (const i of path) state[i] = 2;
  }
}

/** Cuts a giant level into blocks of consecutive children, so that it can be opened in parts. */
function blocks(tree: Tree, children: number[], parent: number, max: number): number[] {
  if (children.length <= max) return children;
  const size = Math.max(25, Math.ceil(Math.sqrt(children.length)));
  const out: number[] = [];
  for (let from = 0; from < children.length; from += size) {
    const part = children.slice(from, from + size);
    const firstItem = tree.items[part[0]!]!;
    const id = `blocks:${parent < 0 ? "" : tree.items[parent]!.id}:${from + 1}-${from + part.length}`;
    const item: Item = {
      index: tree.items.length, id, label: `${from + 1} – ${from + part.length}`, node: -1, parent,
      children: part, depth: 0, leaves: 0, first: firstItem.first,
    };
    for (const child of part) {
      tree.items[child]!.parent = item.index;
      item.leaves += tree.items[child]!.leaves;
    }
    tree.items.push(item);
    tree.ofGroup.set(id, item.index);
    out.push(item.index);
  }
  return out;
}

/** Open groups (by id) that are reachable: a group inside a closed one is not open on screen. */
export function visibleGraph(data: GraphData, tree: Tree, expanded: Iterable<string>): VisibleGraph {
  const wanted = new Set<number>();
  for (const id of expanded) {
    const item = tree.ofGroup.get(id);
    if (item !== undefined) wanted.add(item);
  }
  const items: number[] = [];
  const open = new Set<number>();
  const shownAs = new Int32Array(tree.items.length).fill(-1);
  let cards = 0;
  const cover = (at: number, by: number): void => {
    shownAs[at] = by;
    for (const child of tree.items[at]!.children) cover(child, by);
  };
  const walk = (list: number[]): void => {
    for (const at of list) {
      items.push(at);
      const item = tree.items[at]!;
      if (item.node < 0 && wanted.has(at)) {
        open.add(at);
        shownAs[at] = at;
        walk(item.children);
      } else {
        cards++;
        cover(at, at);
      }
    }
  };
  walk(tree.roots);

  const byKey = new Map<number, VisibleEdge>();
  const { source, target, conversion } = data.edges;
  const size = tree.items.length;
  for (let e = 0; e < source.length; e++) {
    const s = shownAs[tree.ofNode[source[e]!]!]!;
    const t = shownAs[tree.ofNode[target[e]!]!]!;
    if (s === t) continue;
    const key = s * size + t;
    let edge = byKey.get(key);
    if (!edge) {
      edge = { key: `${s}>${t}`, source: s, target: t, edges: [], conversion: 0 };
      byKey.set(key, edge);
    }
    edge.edges.push(e);
    edge.conversion |= conversion?.[e] ?? 0;
  }
  return { items, open, shownAs, edges: [...byKey.values()], cards };
}

/** Groups that must be open for an item to be seen, outermost first. */
export function ancestors(tree: Tree, item: number): number[] {
  const out: number[] = [];
  for (let up = tree.items[item]!.parent; up >= 0; up = tree.items[up]!.parent) out.unshift(up);
  return out;
}

/** Node indices within an item, in order. */
export function leavesOf(tree: Tree, item: number): number[] {
  const out: number[] = [];
  const walk = (at: number): void => {
    const it = tree.items[at]!;
    if (it.node >= 0) out.push(it.node);
    else it.children.forEach(walk);
  };
  walk(item);
  return out;
}

/** Open groups after "open one level more". */
export function openLevel(tree: Tree, visible: VisibleGraph): string[] {
  return visible.items.filter((i) => tree.items[i]!.node < 0).map((i) => tree.items[i]!.id);
}

export function allGroups(tree: Tree): string[] {
  return tree.items.filter((i) => i.node < 0 && i.leaves > 0).map((i) => i.id);
}

/** Cards on screen for a set of open groups, without building the graph. */
export function countCards(tree: Tree, expanded: Iterable<string>): number {
  const wanted = new Set(expanded);
  let count = 0;
  const walk = (list: number[]): void => {
    for (const at of list) {
      const item = tree.items[at]!;
      if (item.node < 0 && wanted.has(item.id)) walk(item.children);
      else count++;
    }
  };
  walk(tree.roots);
  return count;
}

/** What was open before, as far as it exists here: another engine has other boxes. Else what is open at first. */
export function startExpanded(tree: Tree, before: string[] = []): string[] {
  const known = before.filter((id) => tree.ofGroup.has(id));
  return known.length ? known : initialExpanded(tree);
}

/** A single box on an empty page says nothing: the ones that are alone start open. */
export function initialExpanded(tree: Tree): string[] {
  const out: string[] = [];
  let level = tree.roots;
  while (level.length === 1 && tree.items[level[0]!]!.node < 0) {
    out.push(tree.items[level[0]!]!.id);
    level = tree.items[level[0]!]!.children;
  }
  return out;
}

/** Ids of the closed groups around items. */
export function closedAround(tree: Tree, items: readonly number[], expanded: ReadonlySet<string>): string[] {
  const around = new Set(items.flatMap((i) => ancestors(tree, i).map((g) => tree.items[g]!.id)));
  return [...around].filter((id) => !expanded.has(id));
}

/** Ids of the nodes within an item. */
export function idsWithin(data: GraphData, tree: Tree, item: number): string[] {
  return leavesOf(tree, item).map((n) => data.nodes.id[n]!);
}

/** The grouping that a map begins with. */
export function firstGrouping(data: GraphData): string {
  return data.groupings[0]?.name ?? NO_GROUPING;
}
