/** The report: the same views on a page with no kernel, linked by a selection in the page. */
import { injectCss } from "../css";
import type { DetailsSource } from "../details/details";
import { h, Scope } from "../dom";
import { faultOfGraph, faultOfTable } from "../decode";
import { FusionView } from "../map/fusion_view";
import { GraphView } from "../map/graph_view";
import { SelectionStore, translatedLink, type LinkTable, type SelectionLink } from "../selection";
import { TableView } from "../table/table";
import { detectTheme, watchTheme } from "../theme";
import type { ReportPayload, SelectionKind } from "../types";
import { formatValue } from "../units";

/** Draws a report into an element. Returns the way to take it down, and the selection. */
export function mountReport(element: HTMLElement, payload: ReportPayload): { dispose(): void; selection: SelectionStore } {
  injectCss(element);
  const store = new SelectionStore();
  const errors = h("div", { role: "alert" });
  const onError = (where: string, error: unknown): void => {
    const message = error instanceof Error ? error.message : String(error);
    errors.append(h("div", { class: "wb-error" }, h("span", {}, `${where}: ${message}`)));
  };
  const scope = new Scope(onError);
  const map = h("div", {});
  const tables = h("div", {});
  tables.style.cssText = "display:flex;flex-direction:column;gap:14px";
  const graphData = payload.fusion ?? payload.graph;
  const page = h("main", { class: "wb-page" },
    h("header", {}, h("h1", {}, payload.title), payload.subtitle ? h("p", {}, payload.subtitle) : null),
    errors,
    payload.facts?.length
      ? h("div", { class: "wb-cards" }, ...payload.facts.map((f) => h("div", { class: "wb-figure" }, h("small", {}, f.name),
        h("strong", {}, typeof f.value === "number" ? formatValue(f.value, f.unit ?? "", f.source) : (f.value ?? "–")),
        f.source || f.note ? h("small", {}, [f.source, f.note].filter(Boolean).join(" · ")) : null)))
      : null,
    h("h2", { class: "wb-unseen" }, "What became of the model"), // headings of details come below it
    graphData ? map : null,
    tables,
    payload.figures?.length ? h("div", { class: "wb-images" }, ...payload.figures.map((f) => figure(f))) : null,
    payload.footer?.length ? h("footer", {}, ...payload.footer.map((line) => h("div", {}, line))) : null,
  );
  const root = h("div", { class: "wb-root wb-report" }, page);
  const themed = (): void => { root.dataset["theme"] = detectTheme(element); };
  themed();
  scope.add(watchTheme(element, themed));
  element.append(root);
  scope.add(() => root.remove());

  const attempt = (where: string, make: () => { dispose(): void } | null): void => {
    // One part that cannot be drawn must not take the rest of the page with it.
    try {
      const view = make();
      if (view) scope.add(() => view.dispose());
    } catch (error) {
      onError(where, error);
    }
  };
  const options = { height: 680, details: true };
  const links: LinkTable | null = payload.fusion
    ? { layerId: payload.fusion.plan.nodes.id, nodeId: payload.fusion.original.nodes.id, layer: payload.fusion.links.layer, node: payload.fusion.links.node }
    : null;
  const linkFor = (kind: SelectionKind): SelectionLink => (links ? translatedLink(store, kind, links) : store);
  const details: DetailsSource = (id, kind) => {
    const record = payload.details?.[`${kind}:${id}`];
    return record ? Promise.resolve(record) : Promise.reject(new Error("This report holds no details of it."));
  };
  attempt("Map", () => {
    if (payload.fusion) {
      const fault = faultOfGraph(payload.fusion.original) ?? faultOfGraph(payload.fusion.plan);
      if (fault) throw new Error(fault);
      return new FusionView({ element: map, data: payload.fusion, link: store, options, details, onError });
    }
    if (!payload.graph) return null;
    const fault = faultOfGraph(payload.graph);
    if (fault) throw new Error(fault);
    return new GraphView({ element: map, data: payload.graph, link: store, options, details, onError });
  });
  for (const table of payload.tables ?? []) {
    attempt("Table", () => {
      const fault = faultOfTable(table);
      if (fault) throw new Error(fault);
      const slot = h("div", {});
      tables.append(slot);
      return new TableView({ element: slot, data: table, link: linkFor(table.of), options: { height: Math.min(460, 84 + 30 * Math.max(3, table.id.length)) }, onError });
    });
  }
  return { dispose: () => scope.dispose(), selection: store };

  function figure(f: { title: string; svg: string; alt: string }): HTMLElement {
    const url = URL.createObjectURL(new Blob([f.svg], { type: "image/svg+xml" }));
    scope.add(() => URL.revokeObjectURL(url));
    // The chart has its own title.
    return h("figure", { class: "wb-figure" }, h("img", { src: url, alt: f.alt }));
  }
}
