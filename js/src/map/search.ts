/** The search field of a map: finds nodes and groups by words, and jumps to them. */
import { h, icon, newId, type Scope } from "../dom";
import { figures } from "../units";
import type { Tree } from "./visible";

const SHOWN = 40;

/** Items whose label, id or second line holds every word; whole-label and prefix matches first. */
export function findItems(tree: Tree, text: (item: number) => string, query: string): number[] {
  const wanted = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (wanted.length === 0) return [];
  const hits: { item: number; rank: number }[] = [];
  for (const item of tree.items) {
    if (item.leaves === 0) continue;
    const label = item.label.toLowerCase();
    const all = `${label} ${item.id.toLowerCase()} ${text(item.index).toLowerCase()}`;
    if (!wanted.every((w) => all.includes(w))) continue;
    const whole = query.trim().toLowerCase();
    hits.push({ item: item.index, rank: label === whole ? 0 : label.startsWith(wanted[0]!) ? 1 : label.includes(wanted[0]!) ? 2 : 3 });
  }
  return hits.sort((a, b) => a.rank - b.rank || tree.items[a.item]!.first - tree.items[b.item]!.first || a.item - b.item).map((hit) => hit.item);
}

/** The place of the next hit among those listed, in a circle. */
export function stepTo(at: number, by: 1 | -1, hits: number): number {
  const listed = Math.min(SHOWN, hits);
  return (at + by + listed) % listed;
}

export interface SearchEvents {
  find(query: string): number[];
  describe(item: number): { label: string; sub: string; color: string };
  jump(item: number): void;
  matches(items: number[]): void;
  leave(): void;
}

export class Search {
  readonly element: HTMLElement;
  readonly input: HTMLInputElement;
  private readonly list: HTMLElement;
  private readonly id = newId("wb-hits");
  private hits: number[] = [];
  private at = -1;
  /** What the hits were found for. */
  private looked = "";

  constructor(private readonly scope: Scope, private readonly events: SearchEvents, what: string) {
    this.input = h("input", {
      type: "search", placeholder: `Find a ${what}`, "aria-label": `Find a ${what}`, role: "combobox",
      "aria-expanded": "false", "aria-controls": this.id, "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
    });
    this.list = h("div", { class: "wb-hits", role: "listbox", id: this.id, hidden: true });
    this.element = h("div", { class: "wb-search" }, icon("search"), this.input, h("kbd", { class: "wb-key" }, "/"), this.list);
    const look = scope.debounce("search", 90, () => this.keepUp());
    scope.listen(this.input, "input", look);
    scope.listen(this.input, "focus", () => { if (this.input.value) this.update(); });
    scope.listen(this.input, "blur", () => this.close());
    scope.listen(this.list, "mousedown", (event) => {
      event.preventDefault();
      const hit = (event.target as Element).closest<HTMLElement>("[data-at]");
      if (hit) this.go(Number(hit.dataset["at"]));
    });
    scope.listen(this.input, "keydown", (event) => {
      event.stopPropagation();
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        this.keepUp();
        if (this.hits.length) this.point(stepTo(this.at, event.key === "ArrowDown" ? 1 : -1, this.hits.length));
      } else if (event.key === "Enter") {
        this.keepUp();
        if (this.hits.length) this.go(Math.max(0, this.at));
      } else if (event.key === "Escape") {
        this.clear();
        events.leave();
      } else return;
      event.preventDefault();
    });
  }

  /** A slash anywhere in `root` puts the cursor into the search field. */
  focusOnSlash(root: HTMLElement): void {
    this.scope.listen(root, "keydown", (event) => {
      if (event.key !== "/" || event.target instanceof HTMLInputElement) return;
      this.input.focus();
      event.preventDefault();
    });
  }

  clear(): void {
    this.input.value = this.looked = "";
    this.hits = [];
    this.close();
    this.events.matches([]);
  }

  /** Whoever types fast and presses Enter means what is typed, not what was found for its beginning. */
  private keepUp(): void {
    if (this.input.value !== this.looked) this.update();
  }

  private update(): void {
    this.looked = this.input.value;
    this.hits = this.events.find(this.input.value);
    this.at = this.hits.length ? 0 : -1;
    this.events.matches(this.hits);
    this.list.hidden = this.input.value.trim() === "";
    this.input.setAttribute("aria-expanded", String(!this.list.hidden));
    const rows = this.hits.slice(0, SHOWN).map((item, i) => {
      const { label, sub, color } = this.events.describe(item);
      const dot = h("span", { class: "wb-dot" });
      dot.style.background = color;
      return h("div", { class: "wb-hit", role: "option", id: `${this.id}-${i}`, "data-at": i, "aria-selected": String(i === this.at), title: label }, dot, h("span", {}, label), h("small", {}, sub));
    });
    const count = this.hits.length;
    const note = count === 0 ? "Nothing found" : count > SHOWN ? `${figures(count)} found, the first ${SHOWN} shown` : "";
    this.list.replaceChildren(...rows, ...(note ? [h("div", { class: "wb-note" }, note)] : []));
    this.point(this.at);
  }

  private point(at: number): void {
    this.at = at;
    [...this.list.querySelectorAll("[data-at]")].forEach((row, i) => row.setAttribute("aria-selected", String(i === at)));
    if (at >= 0) this.input.setAttribute("aria-activedescendant", `${this.id}-${at}`);
    else this.input.removeAttribute("aria-activedescendant");
    this.list.querySelector(`[data-at="${at}"]`)?.scrollIntoView({ block: "nearest" });
  }

  private go(at: number): void {
    const item = this.hits[at];
    this.close();
    if (item !== undefined) this.events.jump(item);
  }

  private close(): void {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}
