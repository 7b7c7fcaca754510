/** The graph as a tree of text rows, for screen readers and for people who prefer lists. */
import { button, h, newId, type Scope } from "../dom";
import type { Mark } from "./overlay";
import type { Tree, VisibleGraph } from "./visible";

const ROW = 26;
const SPARE = 8;

export interface OutlineEvents {
  pick(item: number, add: boolean): void;
  toggle(item: number): void;
  hover(item: number): void;
  close(): void;
}

export class Outline {
  readonly element: HTMLElement;
  private readonly list: HTMLElement;
  private readonly space: HTMLElement;
  private readonly id = newId("wb-outline");
  private tree: Tree | null = null;
  private rows: number[] = [];
  private place = new Map<number, number>();
  private open = new Set<number>();
  private selected = new Set<number>();
  private partial = new Set<number>();
  private marks = new Map<number, Mark>();
  private cursor = -1;
  private readonly draw: () => void;

  constructor(scope: Scope, label: string, private readonly events: OutlineEvents) {
    this.space = h("div", { role: "presentation" });
    this.list = h("div", { class: "wb-scroll", role: "tree", tabindex: 0, "aria-label": label, "aria-multiselectable": "true" }, this.space);
    const close = button("close", "Close the outline");
    close.style.cssText = "height:22px;min-width:22px;padding:0;float:right;margin:-2px -6px 0 0";
    this.element = h("section", { class: "wb-outline", "aria-label": "Outline" }, h("header", {}, "Outline", close), this.list);
    this.draw = scope.perFrame("outline", () => this.render());
    scope.listen(close, "click", () => events.close());
    scope.listen(this.list, "scroll", () => this.draw(), { passive: true });
    scope.onResize(this.list, () => this.draw());
    scope.listen(this.list, "keydown", (event) => this.key(event));
    scope.listen(this.list, "focus", () => {
      if (this.cursor < 0 && this.rows.length) this.moveTo(this.place.get([...this.selected][0] ?? -1) ?? 0);
    });
    scope.listen(this.list, "click", (event) => {
      const item = itemAt(event);
      if (item < 0) return;
      this.cursor = item;
      if ((event.target as Element).closest(".wb-twist")) events.toggle(item);
      else events.pick(item, event.ctrlKey || event.metaKey || event.shiftKey);
    });
    scope.listen(this.list, "dblclick", (event) => {
      const item = itemAt(event);
      if (item >= 0 && !(event.target as Element).closest(".wb-twist") && this.tree!.items[item]!.node < 0) events.toggle(item);
    });
    scope.listen(this.list, "mouseover", (event) => events.hover(itemAt(event)));
    scope.listen(this.list, "mouseleave", () => events.hover(-1));
  }

  show(tree: Tree, visible: VisibleGraph, marks: Map<number, Mark>): void {
    if (tree !== this.tree) this.cursor = -1; // another grouping: the same number is another item
    this.tree = tree;
    this.rows = visible.items;
    this.open = visible.open;
    this.marks = marks;
    this.place = new Map(this.rows.map((item, i) => [item, i]));
    if (!this.place.has(this.cursor)) this.cursor = -1;
    this.space.style.height = `${this.rows.length * ROW}px`;
    this.draw();
  }

  select(selected: Set<number>, partial: Set<number>, scroll: boolean): void {
    this.selected = selected;
    this.partial = partial;
    const first = scroll ? this.rows.findIndex((i) => selected.has(i)) : -1;
    if (first >= 0) {
      this.cursor = this.rows[first]!;
      this.scrollTo(first);
    }
    this.draw();
  }

  private key(event: KeyboardEvent): void {
    const at = this.place.get(this.cursor) ?? -1;
    const item = this.cursor;
    const tree = this.tree!;
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1);
    const group = item >= 0 && tree.items[item]!.node < 0;
    switch (event.key) {
      case "ArrowDown": this.moveTo(at + 1); break;
      case "ArrowUp": this.moveTo(at - 1); break;
      case "PageDown": this.moveTo(at + page); break;
      case "PageUp": this.moveTo(at - page); break;
      case "Home": this.moveTo(0); break;
      case "End": this.moveTo(this.rows.length - 1); break;
      case "ArrowRight":
        if (group && !this.open.has(item)) this.events.toggle(item);
        else if (group) this.moveTo(at + 1);
        break;
      case "ArrowLeft":
        if (group && this.open.has(item)) this.events.toggle(item);
        else if (item >= 0) this.moveTo(this.place.get(tree.items[item]!.parent) ?? at);
        break;
      case "Enter":
        if (group) this.events.toggle(item);
        else if (item >= 0) this.events.pick(item, false);
        break;
      case " ":
        if (item >= 0) this.events.pick(item, event.ctrlKey || event.shiftKey);
        break;
      default: return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  private moveTo(at: number): void {
    if (this.rows.length === 0) return;
    const to = Math.min(this.rows.length - 1, Math.max(0, at));
    this.cursor = this.rows[to]!;
    this.scrollTo(to);
    this.events.hover(this.cursor);
    this.draw();
  }

  private scrollTo(at: number): void {
    const top = at * ROW;
    const view = this.list.clientHeight;
    if (top < this.list.scrollTop) this.list.scrollTop = top - ROW;
    else if (top + ROW > this.list.scrollTop + view) this.list.scrollTop = top + 2 * ROW - view;
  }

  /** Only the rows on screen exist; the roles give the whole size. */
  private render(): void {
    if (!this.tree) return;
    const from = Math.max(0, Math.floor(this.list.scrollTop / ROW) - SPARE);
    const to = Math.min(this.rows.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW) + SPARE);
    const out: HTMLElement[] = [];
    for (let i = from; i < to; i++) out.push(this.row(this.rows[i]!, i));
    // A row that has the cursor must exist while it is the active descendant.
    const at = this.place.get(this.cursor);
    if (at !== undefined && (at < from || at >= to)) out.push(this.row(this.cursor, at));
    this.space.replaceChildren(...out);
    if (at === undefined) this.list.removeAttribute("aria-activedescendant");
    else this.list.setAttribute("aria-activedescendant", `${this.id}-${this.cursor}`);
  }

  private row(item: number, at: number): HTMLElement {
    const it = this.tree!.items[item]!;
    const group = it.node < 0;
    const siblings = it.parent < 0 ? this.tree!.roots : this.tree!.items[it.parent]!.children;
    const mark = this.marks.get(item);
    const twist = h("span", { class: "wb-twist" });
    if (group) {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", "0 0 16 16");
      svg.setAttribute("class", "wb-icon");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", "M6 4l4 4l-4 4");
      svg.append(path);
      twist.append(svg);
    }
    const dot = h("span", { class: "wb-dot" });
    if (mark) dot.style.background = mark.color;
    else dot.style.visibility = "hidden";
    const note = mark?.text || (group ? String(it.leaves) : (mark?.code ?? ""));
    const row = h("div", {
      class: `wb-row${this.cursor === item ? " wb-cursor" : ""}${this.partial.has(item) ? " wb-partial" : ""}`,
      role: "treeitem", id: `${this.id}-${item}`, "data-item": item,
      "aria-level": it.depth + 1, "aria-setsize": siblings.length, "aria-posinset": siblings.indexOf(item) + 1,
      "aria-selected": String(this.selected.has(item)), "aria-expanded": group ? String(this.open.has(item)) : null,
      title: it.label,
    }, twist, dot, h("span", { class: "wb-name" }, it.label), h("small", {}, note));
    row.style.top = `${at * ROW}px`;
    row.style.paddingLeft = `${8 + Math.min(it.depth, 8) * 12}px`;
    return row;
  }
}

function itemAt(event: Event): number {
  const row = (event.target as Element | null)?.closest<HTMLElement>(".wb-row");
  return row ? Number(row.dataset["item"]) : -1;
}
