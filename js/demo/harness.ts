/** Page of the harness: shows one view by the query string, through a stand-in for the anywidget model. */
import { bigPlan, detailsOf, hostile, reportPayload, resnetPlan, tableOf, transformerFusion, transformerOriginal } from "./data";
import type { FromPython, ToPython, WidgetState } from "../src/types";

type Handler = (...args: never[]) => void;

/** Behaves as the front-end half of an anywidget model; `python` plays the kernel. */
export class FakeModel {
  readonly sent: ToPython[] = [];
  readonly saved: Partial<WidgetState>[] = [];
  private readonly handlers = new Map<string, Set<Handler>>();
  private dirty: Partial<WidgetState> = {};

  constructor(private readonly state: WidgetState) {}

  get<K extends keyof WidgetState>(name: K): WidgetState[K] {
    return this.state[name];
  }

  set<K extends keyof WidgetState>(name: K, value: WidgetState[K]): void {
    this.state[name] = value;
    this.dirty[name] = value;
    this.emit(`change:${name}`);
  }

  save_changes(): void {
    this.saved.push(this.dirty);
    this.dirty = {};
  }

  send(message: ToPython): void {
    this.sent.push(message);
    if (message.type !== "details") return;
    const answer: FromPython = message.id.includes("Gather")
      ? { type: "details", request: message.request, error: "This node has no record: it was folded." }
      : { type: "details", request: message.request, record: detailsOf(message.id, message.kind) };
    setTimeout(() => this.emit("msg:custom", answer), 30);
  }

  on(event: string, fn: Handler): void {
    if (!this.handlers.has(event)) this.handlers.set(event, new Set());
    this.handlers.get(event)!.add(fn);
  }

  off(event: string, fn: Handler): void {
    this.handlers.get(event)?.delete(fn);
  }

  get listeners(): number {
    return [...this.handlers.values()].reduce((sum, set) => sum + set.size, 0);
  }

  /** What the kernel does when Python assigns a trait. */
  python<K extends keyof WidgetState>(name: K, value: WidgetState[K]): void {
    this.state[name] = value;
    this.emit(`change:${name}`);
  }

  private emit(event: string, ...args: unknown[]): void {
    for (const fn of [...(this.handlers.get(event) ?? [])]) (fn as (...a: unknown[]) => void)(...args);
  }
}

async function gzip(value: unknown): Promise<DataView> {
  const stream = new Blob([JSON.stringify(value)]).stream().pipeThrough(new CompressionStream("gzip"));
  return new DataView(await new Response(stream).arrayBuffer());
}

interface Bundle {
  default: { initialize(c: { model: FakeModel }): void; render(c: { model: FakeModel; el: HTMLElement }): () => void };
  mountReport(el: HTMLElement, payload: unknown): { dispose(): void };
}

export async function start(bundle: Bundle): Promise<void> {
  const query = new URLSearchParams(location.search);
  const dark = query.get("theme") === "dark";
  document.body.setAttribute("data-jp-theme-light", dark ? "false" : "true");
  document.body.style.background = dark ? "#111" : "#fff";
  const el = document.getElementById("out")!;
  const name = query.get("data") ?? "resnet";
  const count = Number(query.get("n") ?? 12);
  const component = (query.get("view") ?? "graph") as WidgetState["component"] | "report";
  const globals = window as unknown as Record<string, unknown>;
  if (component === "report") {
    globals["report"] = bundle.mountReport(el, reportPayload());
    return;
  }
  const graph = name === "resnet" ? resnetPlan() : name === "hostile" ? hostile() : name === "flat" ? bigPlan(count, true) : name === "plan" ? transformerFusion(count).plan
    : name === "onnx" ? (() => { const b = transformerOriginal(count); return b.data("node", `bert, ${count} blocks`, [b.grouping("modules", "Module scopes")]); })() : bigPlan(count, false);
  const raw = component === "fusion" ? transformerFusion(count) : component === "table" ? tableOf(graph) : component === "details" ? { engine: "demo" } : graph;
  const data = query.has("gzip") ? await gzip(raw) : raw;
  const model = new FakeModel({
    component, data,
    options: { details: query.has("details"), height: Number(query.get("height") ?? 700), direction: (query.get("dir") as "TB" | "LR") ?? null, mode: (query.get("mode") as "split") ?? null },
    selection: { ids: [], origin: "", kind: "layer" }, expanded: query.get("open")?.split(",") ?? [], overlay: query.get("overlay") ?? "", grouping: "",
  });
  globals["model"] = model;
  const t0 = performance.now();
  bundle.default.initialize({ model });
  // JupyterLab attaches a view after it has drawn it.
  const late = query.has("late");
  if (late) {
    el.remove();
    setTimeout(() => document.body.append(el), 400);
  }
  globals["cleanup"] = bundle.default.render({ model, el });
  globals["again"] = (): (() => void) => {
    const second = document.createElement("div");
    second.id = "second";
    document.body.append(second);
    return bundle.default.render({ model, el: second });
  };
  const watch = (): void => {
    if (el.querySelector("[data-ready]")) requestAnimationFrame(() => requestAnimationFrame(() => { globals["readyMs"] = performance.now() - t0; }));
    else requestAnimationFrame(watch);
  };
  watch();
}
