/** The one selection of a page, and how selections are merged and carried between graph and plan. */
import type { Selection, SelectionKind } from "./types";

export const NO_SELECTION: Selection = { ids: [], origin: "", kind: "layer" };

/** What a view needs to share its selection: the anywidget model and the report both offer it. */
export interface SelectionLink {
  get(): Selection;
  set(selection: Selection): void;
  /** Called for every change, a view's own included. Returns the way to stop. */
  subscribe(listener: (selection: Selection) => void): () => void;
}

/** The selection of a page without a kernel. */
export class SelectionStore implements SelectionLink {
  private value: Selection = NO_SELECTION;
  private readonly listeners = new Set<(selection: Selection) => void>();

  get(): Selection {
    return this.value;
  }

  set(selection: Selection): void {
    if (sameSelection(this.value, selection) && this.value.origin === selection.origin) return;
    this.value = selection;
    for (const listener of [...this.listeners]) listener(selection);
  }

  subscribe(listener: (selection: Selection) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

export function sameSelection(a: Selection, b: Selection): boolean {
  return a.kind === b.kind && a.ids.length === b.ids.length && a.ids.every((id, i) => id === b.ids[i]);
}

/** Plain click replaces; Ctrl or Shift adds what is missing, or removes what was all there. */
export function mergeIds(current: string[], picked: string[], add: boolean): string[] {
  if (!add) return [...new Set(picked)];
  const have = new Set(current);
  const all = picked.length > 0 && picked.every((id) => have.has(id));
  if (all) {
    const drop = new Set(picked);
    return current.filter((id) => !drop.has(id));
  }
  return [...current, ...picked.filter((id) => !have.has(id))];
}

/** Python may send anything; what is no selection counts as an empty one. */
export function readSelection(raw: unknown): Selection {
  if (typeof raw !== "object" || raw === null) return NO_SELECTION;
  const { ids, origin, kind } = raw as Partial<Selection>;
  return {
    ids: Array.isArray(ids) ? ids.filter((id): id is string => typeof id === "string") : [],
    origin: typeof origin === "string" ? origin : "",
    kind: kind === "node" ? "node" : "layer",
  };
}

export interface LinkTable {
  layerId: string[];
  nodeId: string[];
  layer: number[];
  node: number[];
}

/** Nodes of the selected layers, or layers of the selected nodes. */
export function translate(selection: Selection, to: SelectionKind, links: LinkTable): Selection {
  if (selection.kind === to) return selection;
  const chosen = new Set(selection.ids);
  const [fromIds, fromIndex, toIds, toIndex] =
    to === "node" ? [links.layerId, links.layer, links.nodeId, links.node] : [links.nodeId, links.node, links.layerId, links.layer];
  const out = new Set<number>();
  for (let k = 0; k < fromIndex.length; k++) {
    if (chosen.has(fromIds[fromIndex[k]!]!)) out.add(toIndex[k]!);
  }
  return { ids: [...out].sort((a, b) => a - b).map((i) => toIds[i]!), origin: selection.origin, kind: to };
}

/** The same store seen by a view of the other kind: what it reads is translated, what it writes is not. */
export function translatedLink(store: SelectionLink, kind: SelectionKind, links: LinkTable): SelectionLink {
  return {
    get: () => translate(store.get(), kind, links),
    set: (selection) => store.set(selection),
    subscribe: (listener) => store.subscribe((s) => listener(translate(s, kind, links))),
  };
}

let counter = 0;
/** A name for the origin field that no other view on the page has. */
export function newOrigin(view: string): string {
  counter++;
  return `${view}-${counter}-${Math.random().toString(36).slice(2, 7)}`;
}
