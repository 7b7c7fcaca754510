/** A table of thousands of rows: sorts, filters, selects; only the rows on screen exist. */
import { injectCss } from "../css";
import { reviveTable } from "../decode";
import { button, h, icon, newId, Scope, type ErrorSink } from "../dom";
import { measure, SUB_FONT } from "../measure";
import { mergeIds, newOrigin, type SelectionLink } from "../selection";
import { arrange, cell, cellText, isNumeric, largest, type Sort, sortOf, sourceBeside } from "./table_model";
import { followTheme, themeOf } from "../theme";
import type { Selection, TableData, ViewOptions } from "../types";
import { figures, plural } from "../units";

export interface TableViewParams {
  element: HTMLElement;
  data: TableData;
  link: SelectionLink;
  options?: ViewOptions;
  onError: ErrorSink;
}

const ROW = 30;
const HEAD = 34;
const SPARE = 10;
const NARROW = 52;
const WIDE = 380;
/** A text column gives way down to this before the table scrolls sideways. */
const LEAST_TEXT = 92;
/** Its width at most once the table scrolls anyway. */
const SCROLLED_TEXT = 170;
/** Rows looked at to find the width of a column. */
const SAMPLE = 400;

export class TableView {
  readonly root: HTMLElement;
  private readonly scope: Scope;
  private readonly origin: string;
  private readonly data: TableData;
  private readonly grid: HTMLElement;
  private readonly sheet: HTMLElement;
  private readonly space: HTMLElement;
  private readonly heads: HTMLElement[] = [];
  private readonly filter: HTMLInputElement;
  private readonly count: HTMLElement;
  private readonly errorSlot = h("div", { role: "alert" });
  /** What each column would like, and what it needs at least. */
  private readonly wanted: number[];
  private readonly least: number[];
  private widths: number[];
  private readonly maxima: number[];
  private readonly id = newId("wb-table");
  private readonly rowOf: Map<string, number>;
  private readonly draw: () => void;
  private readonly send: () => void;
  private rows: number[] = [];
  private place = new Map<number, number>();
  private sort: Sort | null = null;
  private ids: string[] = [];
  private chosen = new Set<string>();
  private cursor = -1;
  /** The row that a range begins at; it keeps its meaning when the table is sorted. */
  private anchor = -1;

  constructor(private readonly params: TableViewParams) {
    const { element, data, link, options = {} } = params;
    this.data = reviveTable(data);
    this.sort = sortOf(data, options.sort ?? "");
    this.origin = newOrigin("table");
    this.scope = new Scope((where, error) => this.fail(where, error));
    injectCss(element);
    this.rowOf = new Map(data.id.map((id, i) => [id, i]));
    this.least = data.columns.map((_, c) => this.leastOf(c));
    this.wanted = data.columns.map((_, c) => Math.max(this.least[c]!, this.wantedOf(c)));
    this.widths = this.wanted;
    this.maxima = data.rows.map(largest);
    this.filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter rows", spellcheck: "false", autocomplete: "off", title: `Words, or ${data.columns[0]?.name ?? "column"}:word, time>5, kind=conv, -word` });
    this.count = h("span", { class: "wb-count", role: "status", "aria-live": "polite" });
    this.space = h("div", { role: "rowgroup", style: "position:relative" });
    this.grid = h("div", {
      class: "wb-table", role: "grid", tabindex: 0, "aria-label": data.title || "Table", "aria-multiselectable": "true", "aria-colcount": data.columns.length,
    }, this.head(), this.space);
    this.sheet = h("div", { class: "wb-sheet" }, this.grid);
    this.draw = this.scope.perFrame("table", () => this.render());
    this.send = this.scope.debounce("selection", 60, () => link.set({ ids: this.ids, origin: this.origin, kind: data.of }));
    const clear = button("clear", "Clear filter and selection");
    this.root = h("div", { class: "wb-root", role: "region", "aria-label": data.title || "Table", "data-lm-suppress-shortcuts": "true" },
      h("div", { class: "wb-bar" },
        data.title ? h("div", { class: "wb-title", title: data.title }, data.title) : null,
        h("div", { class: "wb-search" }, icon("search"), this.filter, h("kbd", { class: "wb-key" }, "/")),
        clear, h("div", { class: "wb-grow" }), this.count),
      this.errorSlot, this.sheet);
    this.root.style.height = `${options.height ?? 420}px`;
    const themed = (): void => { this.root.dataset["theme"] = themeOf(element, options.theme); };
    themed();
    this.scope.add(followTheme(element, options.theme, themed));
    element.append(this.root);
    this.scope.add(() => this.root.remove());

    this.scope.listen(this.filter, "input", this.scope.debounce("filter", 110, () => this.arrange()));
    this.scope.listen(this.filter, "keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") { this.filter.value = ""; this.arrange(); this.grid.focus(); }
      else if (event.key === "ArrowDown" || event.key === "Enter") { this.grid.focus(); this.moveTo(0, false); }
      else return;
      event.preventDefault();
    });
    this.scope.listen(clear, "click", () => { this.filter.value = ""; this.arrange(); this.setIds([], true); });
    this.scope.listen(this.grid, "scroll", () => { this.sayMore(); this.draw(); }, { passive: true });
    this.scope.listen(this.grid, "keydown", (event) => this.key(event));
    this.scope.listen(this.grid, "click", (event) => this.click(event));
    this.scope.listen(this.root, "keydown", (event) => {
      if (event.key === "/" && event.target !== this.filter) { this.filter.focus(); event.preventDefault(); }
    });
    this.scope.onResize(this.grid, () => this.fitWidth());
    this.scope.onShown(this.grid, () => this.draw());
    this.scope.add(link.subscribe(this.scope.guard("selection", (s: Selection) => this.follow(s))));
    this.arrange();
    this.follow({ ...link.get(), origin: "start" });
  }

  dispose(): void {
    this.scope.dispose();
  }

  private head(): HTMLElement {
    const row = h("div", { class: "wb-thead", role: "row", "aria-rowindex": 1 });
    this.data.columns.forEach((column, c) => {
      const sort = h("button", { type: "button", class: `wb-sort${isNumeric(this.data, c) ? " wb-num" : ""}`, title: `Sort by ${column.label}` },
        h("span", {}, column.label), sourceBeside(column) ? h("small", {}, sourceBeside(column)) : null, h("i", { "aria-hidden": "true" }));
      const cellHead = h("div", { class: "wb-th", role: "columnheader", "aria-colindex": c + 1 }, sort);
      this.scope.listen(sort, "click", () => {
        const numeric = isNumeric(this.data, c);
        // Figures start with the largest: that is what one looks for. A third click undoes.
        if (this.sort?.column !== c) this.sort = { column: c, descending: numeric };
        else if (this.sort.descending === numeric) this.sort = { column: c, descending: !numeric };
        else this.sort = null;
        this.arrange();
      });
      this.heads.push(cellHead);
      row.append(cellHead);
    });
    return row;
  }

  /** The widest of a sample of cells; lengths are measured once at the column's making. */
  private cellsOf(c: number): number {
    const { columns, id } = this.data;
    const room = columns[c]!.type === "tag" ? 46 : 28;
    const step = Math.max(1, Math.floor(id.length / SAMPLE));
    let width = 0;
    for (let r = 0; r < id.length; r += step) width = Math.max(width, measure(cellText(this.data, c, r), SUB_FONT) * 1.16 + room);
    return width;
  }

  private wantedOf(c: number): number {
    const { label, source } = this.data.columns[c]!;
    const head = measure(source ? `${label} ${source}` : label, SUB_FONT) * 1.2 + 44;
    return Math.ceil(Math.min(WIDE, Math.max(NARROW, head, this.cellsOf(c))));
  }

  /** Figures and tags are never cut; text is, and so is the word after a heading that says how a figure came to be. */
  private leastOf(c: number): number {
    const { label, type } = this.data.columns[c]!;
    const head = measure(label, SUB_FONT) * 1.16 + 34;
    const cells = this.cellsOf(c);
    return Math.ceil(Math.min(WIDE, Math.max(NARROW, head, type === "text" ? Math.min(LEAST_TEXT, cells) : cells)));
  }

  /** Text columns take the spare room, and give way where there is too little; then the table scrolls sideways. */
  private fitWidth(): void {
    const sum = (widths: number[]): number => widths.reduce((a, b) => a + b, 0);
    const spare = this.grid.clientWidth - sum(this.wanted);
    if (spare >= 0) {
      const text = this.data.columns.map((k) => k.type === "text");
      const takers = text.filter(Boolean).length || text.length;
      this.widths = this.wanted.map((w, c) => w + (takers === text.length || text[c] ? spare / takers : 0));
    } else {
      const slack = sum(this.wanted) - sum(this.least);
      const share = slack > 0 ? -spare / slack : Infinity;
      this.widths = this.wanted.map((w, c) => (share <= 1 ? w - (w - this.least[c]!) * share : Math.max(this.least[c]!, Math.min(w, SCROLLED_TEXT))));
    }
    this.heads.forEach((cellHead, c) => { cellHead.style.width = `${this.widths[c]!}px`; });
    this.sayMore();
    this.draw();
  }

  /** A shade at the right edge says that there are more columns. */
  private sayMore(): void {
    const { scrollLeft, clientWidth, scrollWidth } = this.grid;
    this.sheet.classList.toggle("wb-more", scrollLeft + clientWidth < scrollWidth - 2);
  }

  private arrange(): void {
    this.rows = arrange(this.data, this.filter.value, this.sort);
    this.place = new Map(this.rows.map((r, i) => [r, i]));
    if (!this.place.has(this.cursor)) this.cursor = -1;
    this.space.style.height = `${this.rows.length * ROW}px`;
    this.grid.setAttribute("aria-rowcount", String(this.rows.length + 1));
    this.heads.forEach((cellHead, c) => {
      const on = this.sort?.column === c;
      cellHead.setAttribute("aria-sort", on ? (this.sort!.descending ? "descending" : "ascending") : "none");
      cellHead.querySelector("i")!.textContent = on ? (this.sort!.descending ? "↓" : "↑") : "";
    });
    this.say();
    this.draw();
  }

  private say(): void {
    const total = this.data.id.length;
    const shown = this.rows.length === total ? plural(total, "row") : `${figures(this.rows.length)} of ${plural(total, "row")}`;
    this.count.textContent = this.ids.length ? `${figures(this.ids.length)} selected · ${shown}` : shown;
  }

  private follow(selection: Selection): void {
    if (selection.origin === this.origin) return;
    this.setIds(selection.kind === this.data.of ? selection.ids.filter((id) => this.rowOf.has(id)) : [], false);
    const places = this.ids.map((id) => this.place.get(this.rowOf.get(id)!)).filter((p) => p !== undefined);
    if (places.length) this.scrollTo(Math.min(...places));
  }

  private setIds(ids: string[], send: boolean): void {
    this.ids = ids;
    this.chosen = new Set(ids);
    this.say();
    this.draw();
    if (send) this.send();
  }

  private click(event: MouseEvent): void {
    const row = (event.target as Element).closest<HTMLElement>(".wb-tr");
    if (!row) return;
    const at = Number(row.dataset["at"]);
    this.cursor = this.rows[at]!;
    if (event.shiftKey && this.place.has(this.anchor)) this.range(at);
    else {
      this.anchor = this.cursor;
      this.setIds(mergeIds(this.ids, [this.data.id[this.cursor]!], event.ctrlKey || event.metaKey), true);
    }
  }

  private range(to: number): void {
    const begin = this.place.get(this.anchor)!;
    const [from, until] = begin < to ? [begin, to] : [to, begin];
    this.setIds(this.rows.slice(from, until + 1).map((r) => this.data.id[r]!), true);
  }

  private key(event: KeyboardEvent): void {
    if (event.target !== this.grid) return;
    const at = this.place.get(this.cursor) ?? -1;
    const page = Math.max(1, Math.floor((this.grid.clientHeight - HEAD) / ROW) - 1);
    const to: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.rows.length - 1 };
    const next = to[event.key];
    if (next !== undefined) this.moveTo(next, event.shiftKey);
    else if ((event.key === "Enter" || event.key === " ") && at >= 0) this.setIds(mergeIds(this.ids, [this.data.id[this.cursor]!], event.key === " "), true);
    else if (event.key === "Escape") this.setIds([], true);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) this.setIds(this.rows.map((r) => this.data.id[r]!), true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private moveTo(to: number, extend: boolean): void {
    if (this.rows.length === 0) return;
    const at = Math.min(this.rows.length - 1, Math.max(0, to));
    this.cursor = this.rows[at]!;
    if (extend && this.place.has(this.anchor)) this.range(at);
    else {
      this.anchor = this.cursor;
      this.setIds([this.data.id[this.cursor]!], true);
    }
    this.scrollTo(at);
    this.draw();
  }

  private scrollTo(at: number): void {
    const view = this.grid.clientHeight - HEAD;
    const top = at * ROW;
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (top + ROW > this.grid.scrollTop + view) this.grid.scrollTop = top + ROW - view;
  }

  private render(): void {
    const from = Math.max(0, Math.floor(this.grid.scrollTop / ROW) - SPARE);
    const to = Math.min(this.rows.length, Math.ceil((this.grid.scrollTop + this.grid.clientHeight) / ROW) + SPARE);
    const out: HTMLElement[] = [];
    for (let i = from; i < to; i++) out.push(this.row(i));
    const at = this.place.get(this.cursor);
    if (at !== undefined && (at < from || at >= to)) out.push(this.row(at));
    if (this.rows.length === 0) out.push(h("div", { class: "wb-note", style: "padding:14px 12px" }, this.data.id.length ? "No row matches the filter." : "There are no rows."));
    this.space.replaceChildren(...out);
    if (at === undefined) this.grid.removeAttribute("aria-activedescendant");
    else this.grid.setAttribute("aria-activedescendant", `${this.id}-${this.cursor}`);
  }

  private row(at: number): HTMLElement {
    const r = this.rows[at]!;
    const cells = this.data.columns.map((column, c) => {
      const text = cellText(this.data, c, r);
      const numeric = isNumeric(this.data, c);
      const td = h("div", { class: `wb-td${numeric ? " wb-num" : ""}`, role: "gridcell", "aria-colindex": c + 1, title: text },
        column.type === "tag" && text ? h("span", { class: "wb-tag" }, text) : numeric ? h("em", { class: column.source === "estimated" ? "wb-est" : "" }, text) : text);
      td.style.width = `${this.widths[c]!}px`;
      const value = cell(this.data, c, r);
      // A bar says something of an amount, and nothing of a position or a stream.
      if (column.source && typeof value === "number" && value !== 0 && this.maxima[c]! > 0) {
        const meter = h("span", { class: "wb-meter", "aria-hidden": "true" });
        meter.style.setProperty("--wb-share", `${Math.min(1, Math.abs(value) / this.maxima[c]!) * 100}%`);
        td.append(meter);
      }
      return td;
    });
    const id = this.data.id[r]!;
    const row = h("div", { class: `wb-tr${this.cursor === r ? " wb-cursor" : ""}`, role: "row", id: `${this.id}-${r}`, "data-at": at, "aria-rowindex": at + 2, "aria-selected": String(this.chosen.has(id)) }, ...cells);
    row.style.top = `${at * ROW}px`;
    return row;
  }

  private fail(where: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.errorSlot.replaceChildren(h("div", { class: "wb-error" }, h("span", {}, `The table could not finish "${where}": ${message}`)));
    this.params.onError(where, error);
  }
}
