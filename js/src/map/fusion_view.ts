/**
 * Before and after: the original graph and the plan, side by side or one at a time. What is
 * pointed at or selected in one is lit in the other, through the links of the data.
 */
import { injectCss } from "../css";
import { DetailsPanel, type DetailsSource } from "../details/details";
import { button, h, Scope, type ErrorSink } from "../dom";
import { buildFusion, FLAGS, type FlagStyle } from "./fusion_model";
import { GraphView } from "./graph_view";
import type { GraphViewEvents } from "./params";
import { flagLegend } from "./legend";
import { rounded } from "./paint";
import type { Box } from "./scene";
import { newOrigin, translate, translatedLink, type LinkTable, type SelectionLink } from "../selection";
import { followTheme, themeOf } from "../theme";
import type { FusionData, LayerFlag, NodeFlag, Selection, ViewOptions } from "../types";
import { figures, plural } from "../units";

export interface FusionViewParams {
  element: HTMLElement;
  data: FusionData;
  link: SelectionLink;
  options?: ViewOptions;
  /** State of the plan's map. */
  state?: { expanded?: string[]; overlay?: string; grouping?: string };
  details?: DetailsSource;
  events?: Omit<GraphViewEvents, "hover">;
  onError: ErrorSink;
}

type Mode = "split" | "before" | "after";

const FLIGHT = 460;
/** Narrower than this, two maps side by side are too small to read. */
const ROOM_FOR_TWO = 720;
/** More shapes in flight than this are a blur, and slow. */
const MOST_GHOSTS = 350;

export class FusionView {
  readonly root: HTMLElement;
  readonly plan: GraphView;
  readonly original: GraphView;
  private readonly scope: Scope;
  private readonly links: LinkTable;
  private readonly panes: { before: HTMLElement; after: HTMLElement; all: HTMLElement };
  private readonly ghosts: HTMLCanvasElement;
  private readonly choices = new Map<Mode, HTMLButtonElement>();
  private mode: Mode = "split";
  private flight = 0;

  constructor(private readonly params: FusionViewParams) {
    const { element, data, link, options = {} } = params;
    this.scope = new Scope(params.onError);
    injectCss(element);
    const model = buildFusion(data);
    this.links = { layerId: data.plan.nodes.id, nodeId: data.original.nodes.id, layer: data.links.layer, node: data.links.node };
    const style = (flag: LayerFlag | NodeFlag): FlagStyle | null => (flag ? FLAGS[flag] : null);

    const before = h("div", { class: "wb-pane" });
    const after = h("div", { class: "wb-pane" });
    this.ghosts = h("canvas", { class: "wb-ghosts", "aria-hidden": "true", hidden: true });
    this.panes = { before, after, all: h("div", { class: "wb-panes" }, before, after, this.ghosts) };
    const details = params.details && options.details
      ? new DetailsPanel(this.scope, params.details, (ids, kind) => link.set({ ids, kind, origin: newOrigin("details") }), () => { details!.element.hidden = true; })
      : null;
    this.root = h("div", { class: "wb-root wb-fusion", role: "region", "aria-label": "Before and after", "data-lm-suppress-shortcuts": "true" },
      this.bar(), h("div", { class: "wb-body" }, this.panes.all, details?.element ?? null));
    this.panes.all.style.flex = "1 1 auto";
    this.panes.all.style.minWidth = "0";
    this.root.style.height = `${options.height ?? 620}px`;
    const themed = (): void => { this.root.dataset["theme"] = themeOf(element, options.theme); };
    themed();
    this.scope.add(followTheme(element, options.theme, themed));
    element.append(this.root);
    this.scope.add(() => this.root.remove());
    this.scope.add(() => cancelAnimationFrame(this.flight));

    // Before the maps follow a selection, so that they scroll within what the panel leaves them.
    if (details) {
      details.element.hidden = true;
      const show = (s: Selection): void => {
        details.element.hidden = s.ids.length === 0;
        details.show(s);
      };
      show(link.get());
      this.scope.add(link.subscribe(this.scope.guard("details", show)));
    }

    const viewOptions: ViewOptions = { ...options, outline: options.outline ?? false, details: false };
    this.original = new GraphView({
      element: before, heading: "As written", data: { ...data.original, title: data.original.title || "Original graph" }, link: translatedLink(link, "node", this.links), options: viewOptions,
      flags: model.nodeFlag.map(style), extraLegend: flagLegend(model.nodeFlag), onError: params.onError,
      events: { hover: (ids) => this.plan.lightIds(this.across(ids, "node")) },
    });
    this.plan = new GraphView({
      element: after, heading: "As compiled", data: { ...data.plan, title: data.plan.title || "Plan" }, link: translatedLink(link, "layer", this.links), options: viewOptions, state: params.state,
      flags: model.layerFlag.map(style), extraLegend: flagLegend(model.layerFlag), onError: params.onError,
      events: { ...params.events, hover: (ids) => this.original.lightIds(this.across(ids, "layer")) },
    });
    for (const view of [this.original, this.plan]) {
      view.root.style.height = "100%";
      this.scope.add(() => view.dispose());
    }
    this.setMode(options.mode === "toggle" ? "after" : "split", false);
    this.scope.whenSized(this.root, (width) => { if (width < ROOM_FOR_TWO) this.setMode("after", false); });
  }

  dispose(): void {
    this.scope.dispose();
  }

  private across(ids: string[], kind: "layer" | "node"): string[] {
    return ids.length ? translate({ ids, kind, origin: "" }, kind === "layer" ? "node" : "layer", this.links).ids : [];
  }

  private bar(): HTMLElement {
    const { data } = this.params;
    const choice = (mode: Mode, icon: "split" | "swap", text: string): HTMLButtonElement => {
      const b = button(icon, text, text);
      b.setAttribute("role", "radio");
      this.scope.listen(b, "click", () => this.setMode(mode, true));
      this.choices.set(mode, b);
      return b;
    };
    const group = h("div", { class: "wb-seg", role: "radiogroup", "aria-label": "What is shown" }, choice("split", "split", "Side by side"), choice("before", "swap", "Before"), choice("after", "swap", "After"));
    for (const b of this.choices.values()) if (b !== this.choices.get("split")) b.querySelector("svg")?.remove();
    this.scope.listen(group, "keydown", (event) => {
      const order: Mode[] = ["split", "before", "after"];
      const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? 2 : 0;
      if (!step) return;
      const next = order[(order.indexOf(this.mode) + step) % 3]!;
      this.setMode(next, true);
      this.choices.get(next)!.focus();
      event.preventDefault();
    });
    const nodes = data.original.nodes.id.length;
    const layers = data.plan.nodes.id.length;
    const summary = `${plural(nodes, "node")} became ${plural(layers, "layer")}` + (layers > 0 && nodes > layers ? `, ${figures(Math.round((nodes / layers) * 10) / 10)} to 1` : "");
    return h("div", { class: "wb-bar" }, group, h("span", { class: "wb-count" }, summary));
  }

  private setMode(mode: Mode, animate: boolean): void {
    const from = this.mode;
    for (const [name, b] of this.choices) {
      b.setAttribute("aria-checked", String(name === mode));
      b.tabIndex = name === mode ? 0 : -1;
    }
    if (from === mode && animate) return;
    this.mode = mode;
    const { all, before, after } = this.panes;
    const fly = animate && from !== "split" && mode !== "split" && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    const pairs = fly ? this.pairs(mode === "after") : [];
    all.classList.toggle("wb-toggle", mode !== "split");
    before.classList.toggle("wb-away", mode === "after");
    after.classList.toggle("wb-away", mode === "before");
    before.inert = mode === "after";
    after.inert = mode === "before";
    if (pairs.length) this.fly(pairs);
  }

  /** From each card to the card that took its place. */
  private pairs(forward: boolean): { from: Box; to: Box; color: string }[] {
    const [here, there] = forward ? [this.original, this.plan] : [this.plan, this.original];
    const stage = here.stageBox;
    const seen = new Set<string>();
    const out: { from: Box; to: Box; color: string }[] = [];
    const { layer, node, layerId, nodeId } = this.links;
    for (let k = 0; k < layer.length && out.length < MOST_GHOSTS; k++) {
      const [fromId, toId] = forward ? [nodeId[node[k]!]!, layerId[layer[k]!]!] : [layerId[layer[k]!]!, nodeId[node[k]!]!];
      const from = here.placeOf(fromId);
      const to = there.placeOf(toId);
      if (!from || !to) continue;
      const onScreen = (b: Box): boolean => b.x < stage.right && b.x + b.w > stage.left && b.y < stage.bottom && b.y + b.h > stage.top;
      if (!onScreen(from) && !onScreen(to)) continue;
      const key = `${Math.round(from.x)},${Math.round(from.y)},${Math.round(to.x)},${Math.round(to.y)}`;
      if (seen.has(key)) continue;
      seen.add(key);
      out.push({ from, to, color: there.markColorOf(toId) });
    }
    return out;
  }

  /** Cards of the one graph glide into the places of the other, while the two cross-fade. */
  private fly(pairs: { from: Box; to: Box; color: string }[]): void {
    cancelAnimationFrame(this.flight);
    const box = this.panes.all.getBoundingClientRect();
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const canvas = this.ghosts;
    canvas.hidden = false;
    canvas.width = box.width * ratio;
    canvas.height = box.height * ratio;
    const ctx = canvas.getContext("2d")!;
    const start = performance.now();
    const stage = this.plan.stageBox;
    const step = this.scope.guard("animation", () => {
      const t = Math.min(1, (performance.now() - start) / FLIGHT);
      const ease = t < 0.5 ? 4 * t ** 3 : 1 - (-2 * t + 2) ** 3 / 2;
      const mix = (a: number, b: number): number => a + (b - a) * ease;
      ctx.setTransform(1, 0, 0, 1, 0, 0);
      ctx.clearRect(0, 0, canvas.width, canvas.height);
      ctx.setTransform(ratio, 0, 0, ratio, -box.left * ratio, -box.top * ratio);
      ctx.save();
      ctx.beginPath();
      ctx.rect(stage.left, stage.top, stage.width, stage.height);
      ctx.clip();
      ctx.globalAlpha = 0.55 * Math.sin(Math.PI * Math.min(1, t * 0.9 + 0.1));
      for (const { from, to, color } of pairs) {
        ctx.fillStyle = color;
        rounded(ctx, { x: mix(from.x, to.x), y: mix(from.y, to.y), w: mix(from.w, to.w), h: mix(from.h, to.h) }, 5);
        ctx.fill();
      }
      ctx.restore();
      if (t < 1) this.flight = requestAnimationFrame(step);
      else canvas.hidden = true;
    });
    step();
  }
}
