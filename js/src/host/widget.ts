/** The one file that knows anywidget: binds a component to the model's traits. */
import { injectCss } from "../css";
import { decode, faultOfGraph, faultOfTable } from "../decode";
import { DetailsView, type DetailsSource } from "../details/details";
import { h, Scope } from "../dom";
import { FusionView } from "../map/fusion_view";
import { GraphView } from "../map/graph_view";
import { readSelection, type SelectionLink } from "../selection";
import { TableView } from "../table/table";
import { detectTheme } from "../theme";
import type { DetailsRecord, FromPython, FusionData, GraphData, SelectionKind, TableData, ToPython, ViewOptions, WidgetState } from "../types";

/** The narrow part of the anywidget model that is used; every host offers it. */
export interface Model {
  get<K extends keyof WidgetState>(name: K): WidgetState[K];
  set<K extends keyof WidgetState>(name: K, value: WidgetState[K]): void;
  save_changes(): void;
  send(content: ToPython): void;
  on(event: string, callback: (...args: never[]) => void): void;
  off(event: string, callback: (...args: never[]) => void): void;
}

type On = (event: string, fn: (...args: never[]) => void) => void;

/** An answer that takes longer means that the kernel is busy or gone. */
const ANSWER_WITHIN = 30_000;

/** Unpacked data by the raw value: several views of one model, or a view shown again, unpack once. */
const unpacked = new WeakMap<object, Promise<unknown>>();

function unpack(raw: unknown): Promise<unknown> {
  if (typeof raw !== "object" || raw === null) return Promise.resolve(raw);
  let known = unpacked.get(raw);
  if (!known) {
    known = decode(raw);
    unpacked.set(raw, known);
  }
  return known;
}

function initialize({ model }: { model: Model }): void {
  // Begin before the first view asks. A failure is reported by the view.
  unpack(model.get("data")).catch(() => undefined);
}

function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  injectCss(el);
  const report = (where: string, error: unknown): void => {
    const problem = error instanceof Error ? error : new Error(String(error));
    model.send({ type: "error", where, message: problem.message, stack: problem.stack ?? "" });
  };
  const scope = new Scope(report);
  const listener = (within: Scope): On => (event, fn) => {
    const guarded = within.guard(event, fn);
    model.on(event, guarded);
    within.add(() => model.off(event, guarded));
  };
  /** What ends with the view that is shown: every new data make a new one. */
  let own: Scope | null = null;
  const drop = (): void => {
    own?.dispose();
    own = null;
    el.replaceChildren();
  };
  scope.add(() => own?.dispose());
  const refuse = (message: string): void => {
    drop();
    const theme = detectTheme(el);
    el.append(h("div", { class: "wb-root", "data-theme": theme }, h("div", { class: "wb-error", role: "alert" }, h("span", {}, message))));
  };

  const linkWithin = (within: Scope): SelectionLink => ({
    get: () => readSelection(model.get("selection")),
    set: (selection) => {
      model.set("selection", selection);
      model.save_changes();
    },
    subscribe: (listener) => {
      const changed = within.guard("selection", () => listener(readSelection(model.get("selection"))));
      model.on("change:selection", changed);
      const off = (): void => model.off("change:selection", changed);
      within.add(off);
      return off;
    },
  });
  const source = detailsSource(model, listener(scope), scope);
  let round = 0;
  const build = async (): Promise<void> => {
    const mine = ++round;
    let data: unknown;
    try {
      data = await unpack(model.get("data"));
    } catch (error) {
      if (mine !== round || scope.disposed) return;
      refuse(`The data could not be read: ${error instanceof Error ? error.message : String(error)}`);
      report("data", error);
      return;
    }
    // The data may have changed again, or the view may be gone, while it was unpacked.
    if (mine !== round || scope.disposed) return;
    const fault = faultOf(model.get("component"), data);
    if (fault) {
      refuse(fault);
      report("data", new Error(fault));
      return;
    }
    drop();
    const fresh = (own = new Scope(report));
    const view = make(model, el, data, linkWithin(fresh), source, report, listener(fresh));
    fresh.add(() => view.dispose());
  };
  const start = (): void => {
    build().catch((error: unknown) => {
      refuse(`The view could not be drawn: ${error instanceof Error ? error.message : String(error)}`);
      report("render", error);
    });
  };
  listener(scope)("change:data", start);
  start();
  return () => scope.dispose();
}

function faultOf(component: string, data: unknown): string | null {
  switch (component) {
    case "graph": return faultOfGraph(data);
    case "table": return faultOfTable(data);
    case "details": return null;
    case "fusion": {
      const { original, plan, links } = (data ?? {}) as Partial<FusionData>;
      const fault = faultOfGraph(original) ?? faultOfGraph(plan);
      if (fault) return fault;
      return Array.isArray(links?.layer) && links.layer.length === links.node?.length ? null : "`links.layer` and `links.node` must be columns of one length.";
    }
    default: return `There is no component "${component}". Choose graph, fusion, table or details.`;
  }
}

function make(
  model: Model, element: HTMLElement, data: unknown, link: SelectionLink, details: DetailsSource,
  onError: (where: string, error: unknown) => void, on: On,
): { dispose(): void } {
  const options: ViewOptions = model.get("options") ?? {};
  const component = model.get("component");
  if (component === "table") return new TableView({ element, data: data as TableData, link, options, onError });
  if (component === "details") return new DetailsView({ element, link, source: details, options, onError });

  const save = <K extends "expanded" | "overlay" | "grouping">(name: K, value: WidgetState[K]): void => {
    model.set(name, value);
    model.save_changes();
  };
  const common = {
    element, link, options, details, onError,
    state: { expanded: model.get("expanded") ?? [], overlay: model.get("overlay") ?? "", grouping: model.get("grouping") ?? "" },
    events: {
      expanded: (ids: string[]) => save("expanded", ids),
      overlay: (name: string) => save("overlay", name),
      grouping: (name: string) => save("grouping", name),
    },
  };
  const fusion = component === "fusion" ? new FusionView({ ...common, data: data as FusionData }) : null;
  const graph = fusion ? fusion.plan : new GraphView({ ...common, data: data as GraphData });
  on("change:overlay", () => graph.setOverlay(model.get("overlay") || "kind"));
  on("change:grouping", () => graph.setGrouping(model.get("grouping") ?? ""));
  on("change:expanded", () => graph.setExpanded(model.get("expanded") ?? []));
  return fusion ?? graph;
}

/** Asks Python and matches the answer by its number. */
function detailsSource(model: Model, on: On, scope: Scope): DetailsSource {
  const waiting = new Map<number, { resolve(record: DetailsRecord): void; reject(error: Error): void }>();
  on("msg:custom", (message: FromPython) => {
    if (message?.type !== "details") return;
    const asker = waiting.get(message.request);
    waiting.delete(message.request);
    if ("error" in message) asker?.reject(new Error(message.error));
    else asker?.resolve(message.record);
  });
  return (id: string, kind: SelectionKind) =>
    new Promise((resolve, reject) => {
      // Two views of one model hear the same answers, so numbers must not repeat between them.
      const request = Math.floor(Math.random() * 2 ** 48);
      waiting.set(request, { resolve, reject });
      scope.after("details", ANSWER_WITHIN, () => {
        if (waiting.delete(request)) reject(new Error("The kernel has not answered. It may be busy or stopped."));
      });
      model.send({ type: "details", request, id, kind });
    });
}

export default { initialize, render };
