/** The details panel: draws whatever record it is given; it knows no compiler. */
import { button, h, icon, Scope, type ErrorSink } from "../dom";
import { injectCss } from "../css";
import { newOrigin, type SelectionLink } from "../selection";
import { followTheme, themeOf, type ThemeName } from "../theme";
import type { DetailsRecord, DetailsSection, Selection, SelectionKind, ViewOptions } from "../types";
import { formatValue, plural } from "../units";

export type DetailsSource = (id: string, kind: SelectionKind) => Promise<DetailsRecord>;

/** Ids listed before "show all". */
const SOME = 12;

export class DetailsPanel {
  readonly element: HTMLElement;
  private asked = 0;

  constructor(
    private readonly scope: Scope,
    private readonly source: DetailsSource,
    private readonly pick: (ids: string[], kind: SelectionKind) => void,
    closed?: () => void,
  ) {
    this.element = h("aside", { class: "wb-details", "aria-label": "Details", tabindex: -1 });
    this.closed = closed;
    this.clear();
  }

  private readonly closed: (() => void) | undefined;

  /** Width of what stands beside it that it lies over, in CSS pixels. */
  get covers(): number {
    return !this.element.hidden && getComputedStyle(this.element).position === "absolute" ? this.element.offsetWidth : 0;
  }

  show(selection: Selection): void {
    const id = selection.ids[0];
    const request = ++this.asked;
    if (id === undefined) return this.clear();
    if (selection.ids.length > 1) return this.several(selection);
    this.fill(h("h3", {}, id), h("p", { class: "wb-id" }, "Loading…"));
    this.source(id, selection.kind).then(
      this.scope.guard("details", (record: DetailsRecord) => {
        if (request === this.asked) this.record(record);
      }),
      this.scope.guard("details", (error: unknown) => {
        if (request !== this.asked) return;
        const message = error instanceof Error ? error.message : String(error);
        this.fill(h("h3", {}, id), h("p", { class: "wb-error", role: "alert" }, message));
      }),
    );
  }

  private clear(): void {
    this.fill(h("div", { class: "wb-blank" }, icon("search"), h("b", {}, "Nothing is selected"),
      h("p", {}, "Click a kernel or a node in the map, or a row of a table, to see what it is, where it comes from and what it costs."),
      h("p", {}, "In the map ", h("kbd", {}, "/"), " searches and ", h("kbd", {}, "Enter"), " opens a box.")));
  }

  private several(selection: Selection): void {
    const title = h("h3", {}, `${plural(selection.ids.length, selection.kind)} selected`);
    this.fill(title, this.ids({ type: "ids", title: "", of: selection.kind, ids: selection.ids }));
  }

  private fill(...content: (Node | null)[]): void {
    const parts: Node[] = [];
    if (this.closed) {
      const close = button("close", "Close the details");
      close.style.cssText = "float:right;margin:-5px -8px 0 4px";
      close.addEventListener("click", this.scope.guard("close", () => this.closed?.()));
      parts.push(close);
    }
    this.element.replaceChildren(...parts, ...content.filter((c): c is Node => c !== null));
    this.element.scrollTop = 0;
  }

  private record(record: DetailsRecord): void {
    const tags = record.tags?.length ? h("div", { class: "wb-tags" }, ...record.tags.map((t) => h("span", { class: "wb-tag", title: t }, t))) : null;
    this.fill(
      h("h3", {}, record.title),
      record.id !== record.title ? h("div", { class: "wb-id" }, record.id) : null,
      record.words ? h("p", {}, record.words) : null,
      tags,
      ...record.sections.map((s) => this.section(s)),
    );
  }

  private section(section: DetailsSection): HTMLElement {
    switch (section.type) {
      case "facts": {
        const list = h("dl", { class: "wb-facts" });
        for (const fact of section.rows) {
          const value = typeof fact.value === "number" ? formatValue(fact.value, fact.unit ?? "", fact.source) : (fact.value ?? "–");
          const notes = [fact.source, fact.note].filter(Boolean).join(" · ");
          list.append(h("dt", {}, fact.name), h("dd", {}, h("span", { class: fact.source === "estimated" ? "wb-est" : "" }, value), notes ? h("small", {}, notes) : null));
        }
        return titled(section.title, list);
      }
      case "ids": return titled(section.title, this.ids(section));
      case "code": {
        const code = h("div", { class: "wb-code", tabindex: 0 }); // it scrolls
        const marked = new Set(section.mark);
        section.lines.forEach((line, i) => {
          const number = section.first + i;
          code.append(h("div", { class: marked.has(number) ? "wb-marked" : "" }, h("i", {}, String(number)), h("span", {}, line || " ")));
        });
        return titled(section.title, h("div", {}, h("div", { class: "wb-path" }, section.path), code));
      }
      case "table": {
        const head = h("tr", {}, ...section.columns.map((c) => (c ? h("th", { scope: "col" }, c) : h("td", {}))));
        const rows = section.rows.map((r) => h("tr", {}, ...r.map((v) => h("td", {}, v === null ? "–" : String(v)))));
        return titled(section.title, h("table", { class: "wb-small" }, h("thead", {}, head), h("tbody", {}, ...rows)));
      }
      case "raw": return h("details", {}, h("summary", {}, section.title), h("pre", { class: "wb-raw" }, section.text));
    }
  }

  private ids(section: Extract<DetailsSection, { type: "ids" }>): HTMLElement {
    const list = h("div", { class: "wb-links" });
    const add = (from: number, to: number): void => {
      for (let i = from; i < Math.min(to, section.ids.length); i++) {
        const id = section.ids[i]!;
        const link = h("button", { type: "button" }, section.labels?.[i] || id);
        link.addEventListener("click", this.scope.guard("details", () => this.pick([id], section.of)));
        list.append(link);
      }
    };
    add(0, SOME);
    if (section.ids.length > SOME) {
      const more = h("button", { type: "button" }, `Show all ${section.ids.length}`);
      more.addEventListener("click", this.scope.guard("details", () => {
        more.remove();
        add(SOME, 2000);
        if (section.ids.length > 2000) list.append(h("span", { class: "wb-note" }, `and ${section.ids.length - 2000} more`));
      }));
      list.append(more);
    }
    return list;
  }
}

function titled(title: string, body: HTMLElement): HTMLElement {
  return h("section", {}, title ? h("h4", {}, title) : null, body);
}

export interface DetailsViewParams {
  element: HTMLElement;
  link: SelectionLink;
  source: DetailsSource;
  options?: ViewOptions;
  onError: ErrorSink;
}

/** The panel as a component of its own. */
export class DetailsView {
  private readonly scope: Scope;

  constructor({ element, link, source, options = {}, onError }: DetailsViewParams) {
    this.scope = new Scope(onError);
    injectCss(element);
    const theme = (name: ThemeName): void => { root.dataset["theme"] = name; };
    const panel = new DetailsPanel(this.scope, source, (ids, kind) => link.set({ ids, kind, origin: newOrigin("details") }));
    panel.element.classList.add("wb-alone");
    const root = h("div", { class: "wb-root", "data-lm-suppress-shortcuts": "true" }, panel.element);
    if (options.height) root.style.height = `${options.height}px`;
    else root.style.height = "100%";
    theme(themeOf(element, options.theme));
    this.scope.add(followTheme(element, options.theme, theme));
    element.append(root);
    this.scope.add(() => root.remove());
    panel.show(link.get());
    this.scope.add(link.subscribe((s) => panel.show(s)));
  }

  dispose(): void {
    this.scope.dispose();
  }
}
