/**
 * GraphView: one map with its toolbar, outline, legend and details. It knows neither Jupyter nor
 * compilers: it gets an element, data, a selection to share and a few callbacks.
 */
import { textAt } from "./columns";
import { injectCss } from "./css";
import { reviveGraph } from "./decode";
import { DetailsPanel, type DetailsSource } from "./details";
import { button, download, h, icon, Scope, type ErrorSink, type IconName } from "./dom";
import type { FlagStyle } from "./fusion_model";
import type { Direction } from "./layout";
import { LayoutClient, type LayoutJob } from "./layout_client";
import { legendElement } from "./legend";
import { Outline } from "./outline";
import { overlayNames, paintOverlay, type Painted } from "./overlay";
import { buildScene, CONVERSIONS, layoutRequest, type Box, type Scene, subOf, words } from "./scene";
import { findItems, Search } from "./search";
import { mergeIds, newOrigin, type SelectionLink } from "./selection";
import { Stage } from "./stage";
import { writeSvg } from "./svg";
import { detectTheme, PALETTES, watchTheme, type Palette } from "./theme";
import type { GraphData, Selection, ViewOptions } from "./types";
import { figures, formatValue, plural } from "./units";
import {
  allGroups, ancestors, ASK_ABOVE, buildTree, countCards, groupingOf, initialExpanded, leavesOf, NO_GROUPING, openLevel, startExpanded, type Tree, visibleGraph, type VisibleGraph,
} from "./visible";

export interface GraphViewEvents {
  expanded?(ids: string[]): void;
  overlay?(name: string): void;
  grouping?(name: string): void;
  /** Node ids under the pointer; empty when it leaves. */
  hover?(ids: string[]): void;
}

export interface GraphViewParams {
  element: HTMLElement;
  data: GraphData;
  /** Shown instead of the data's title, where that would be too long; the title stays the tooltip. */
  heading?: string;
  link: SelectionLink;
  options?: ViewOptions;
  /** What was open, coloured and grouped before; names that do not exist are ignored. */
  state?: { expanded?: string[]; overlay?: string; grouping?: string };
  details?: DetailsSource;
  /** Flag of each node of the data, for the before-and-after view. */
  flags?: (FlagStyle | null)[];
  extraLegend?: HTMLElement | null;
  events?: GraphViewEvents;
  onError: ErrorSink;
}

/** The progress panel appears only if the layout takes longer than this. */
const PATIENCE = 180;
const SELECTION_WAIT = 60;
const ROOM_FOR_OUTLINE = 900;

export class GraphView {
  readonly root: HTMLElement;
  readonly origin: string;
  private readonly scope: Scope;
  private readonly data: GraphData;
  private readonly layouts = new LayoutClient();
  private readonly stage: Stage;
  private readonly outline: Outline;
  private readonly search: Search;
  private readonly details: DetailsPanel | null;
  private readonly status: HTMLElement;
  private readonly legendSlot: HTMLElement;
  private readonly errorSlot: HTMLElement;
  private readonly tip: HTMLElement;
  private readonly overlaySelect: HTMLSelectElement;
  private readonly groupingSelect: HTMLSelectElement;
  private readonly sendSelection: () => void;
  private readonly adjacency: { out: Map<number, string[]>; in: Map<number, string[]> } = { out: new Map(), in: new Map() };

  private tree: Tree;
  private visible: VisibleGraph;
  private scene: Scene | null = null;
  private painted: Painted | null = null;
  private palette: Palette;
  private expanded: Set<string>;
  private overlay: string;
  private grouping: string;
  private direction: Direction;
  private ids: string[] = [];
  private job: LayoutJob | null = null;
  private panel: HTMLElement | null = null;
  private afterLayout: (() => void)[] = [];
  /** The drawing on screen is still that of another grouping: what is clicked there has no meaning in this one. */
  private behind = false;

  constructor(private readonly params: GraphViewParams) {
    const { element, data, options = {}, state = {} } = params;
    this.data = reviveGraph(data);
    this.origin = newOrigin(`graph-${data.of}`);
    this.scope = new Scope((where, error) => this.fail(where, error));
    injectCss(element);
    this.palette = PALETTES[options.theme && options.theme !== "auto" ? options.theme : detectTheme(element)];
    this.direction = options.direction ?? "TB";
    this.overlay = state.overlay || "kind";
    this.grouping = state.grouping || data.groupings[0]?.name || NO_GROUPING;
    this.tree = buildTree(data, groupingOf(data, this.grouping));
    this.expanded = new Set(startExpanded(this.tree, state.expanded));
    this.visible = visibleGraph(data, this.tree, this.expanded);

    this.errorSlot = h("div", { role: "alert" });
    this.status = h("div", { class: "wb-status", role: "status", "aria-live": "polite" });
    this.legendSlot = h("div", { class: "wb-legend" });
    this.tip = h("div", { class: "wb-tip", role: "tooltip", hidden: true });
    this.overlaySelect = h("select", { "aria-label": "Colour by" });
    this.groupingSelect = h("select", { "aria-label": "Group by" });
    const label = data.title || (data.of === "layer" ? "Plan" : "Graph");
    this.stage = new Stage(this.scope, `${label}. Arrow keys follow edges, Enter opens a group, slash searches.`, this.palette, {
      tap: this.inTime((item: number, add: boolean) => this.pick(item, add)),
      toggle: this.inTime((item: number) => this.toggle(item)),
      tapEdge: this.inTime((key: string) => this.pickEdge(key)),
      tapNothing: () => this.setIds([], true),
      hover: this.inTime((item: number, edge: string | null, at: { x: number; y: number }) => this.hover(item, edge, at)),
      key: this.inTime((event: KeyboardEvent) => this.key(event)),
      moved: () => { this.tip.hidden = true; },
    });
    this.outline = new Outline(this.scope, `Outline of ${label}`, {
      pick: this.inTime((item: number, add: boolean) => { this.pick(item, add); this.stage.reveal([item]); }),
      toggle: this.inTime((item: number) => this.toggle(item)),
      hover: this.inTime((item: number) => this.light(item < 0 ? [] : [item])),
      close: () => this.setOutline(false),
    });
    this.search = new Search(this.scope, {
      find: (query) => findItems(this.tree, (i) => this.textOf(i), query),
      describe: (item) => ({ label: this.tree.items[item]!.label, sub: this.tree.items[item]!.label === this.tree.items[item]!.id ? subOf(data, this.tree, item) : this.tree.items[item]!.id, colour: this.markColour(item) }),
      jump: (item) => this.jump(item),
      matches: (items) => {
        this.stage.state.matches = new Set(items.map((i) => this.visible.shownAs[i]!));
        this.stage.repaint();
        if (items.length) this.say(`${plural(items.length, "match", "matches")}`);
        else this.say();
      },
      leave: () => this.stage.element.focus(),
    }, data.of);
    this.details = params.details && options.details
      ? new DetailsPanel(this.scope, params.details, (ids, kind) => params.link.set({ ids, kind, origin: `${this.origin}-details` }), () => { this.details!.element.hidden = true; this.stage.covered = 0; })
      : null;
    if (this.details) this.details.element.hidden = true;

    this.stage.element.append(this.tip);
    if (data.nodes.id.length === 0) this.stage.element.append(h("div", { class: "wb-empty" }, `There are no ${data.of === "layer" ? "layers" : "nodes"} to draw.`));
    this.root = h("div", { class: "wb-root wb-graph", role: "region", "aria-label": label, "data-lm-suppress-shortcuts": "true", "data-theme": this.palette.name },
      this.toolbar(label),
      this.errorSlot,
      h("div", { class: "wb-body" }, this.outline.element, this.stage.element, this.details?.element ?? null),
      h("div", { class: "wb-foot" }, this.legendSlot, params.extraLegend ?? null, this.status),
    );
    this.root.style.height = `${options.height ?? 560}px`;
    element.append(this.root);
    this.scope.add(() => this.root.remove());
    this.setOutline(options.outline ?? false);
    if (options.outline === undefined || options.outline === null) this.scope.whenSized(this.root, (width) => this.setOutline(width >= ROOM_FOR_OUTLINE));

    this.sendSelection = this.scope.debounce("selection", SELECTION_WAIT, () => {
      params.link.set({ ids: this.ids, origin: this.origin, kind: data.of });
    });
    this.scope.add(params.link.subscribe(this.scope.guard("selection", (s: Selection) => this.follow(s))));
    this.scope.add(() => this.job?.cancel());
    this.scope.add(() => this.layouts.dispose());
    if (!options.theme || options.theme === "auto") {
      this.scope.add(watchTheme(element, this.scope.guard("theme", (name) => this.setPalette(PALETTES[name]))));
    }
    this.scope.listen(this.root, "keydown", (event) => {
      if (event.key === "/" && !(event.target instanceof HTMLInputElement)) {
        this.search.input.focus();
        event.preventDefault();
      }
    });
    const start = params.link.get();
    if (start.kind === data.of) this.ids = start.ids.filter((id) => this.tree.ofId.has(id));
    this.relayout(null);
    if (this.ids.length) this.afterLayout.push(() => this.follow({ ...start, origin: "start" }));
  }

  dispose(): void {
    this.scope.dispose();
  }

  /** Only while what is on screen is what is meant. */
  private inTime<A extends unknown[]>(fn: (...args: A) => void): (...args: A) => void {
    return (...args) => { if (!this.behind) fn(...args); };
  }

  /* ------------------------------------------------------------ from outside */

  setExpanded(ids: string[]): void {
    if (ids.length === this.expanded.size && ids.every((id) => this.expanded.has(id))) return;
    this.expanded = new Set(ids);
    this.relayout(null);
  }

  setOverlay(name: string): void {
    const known = overlayNames(this.data).some((o) => o.name === name) ? name : "kind";
    this.overlaySelect.value = known;
    if (known === this.overlay) return;
    this.overlay = known;
    this.recolour();
  }

  setGrouping(name: string): void {
    const known = name === NO_GROUPING || this.data.groupings.some((g) => g.name === name) ? name : (this.data.groupings[0]?.name ?? NO_GROUPING);
    this.groupingSelect.value = known;
    if (known === this.grouping) return;
    this.grouping = known;
    this.tree = buildTree(this.data, groupingOf(this.data, known));
    this.expanded = new Set(initialExpanded(this.tree));
    this.behind = this.scene !== null;
    const { state } = this.stage;
    state.cursor = state.hover = -1;
    state.lit = new Set();
    this.tip.hidden = true;
    this.search.clear();
    this.params.events?.expanded?.([...this.expanded]);
    this.relayout(null);
  }

  /** Lights nodes that another view points at; nothing is selected. */
  lightIds(ids: string[]): void {
    if (this.behind) return;
    const items = ids.map((id) => this.tree.ofId.get(id)).filter((i) => i !== undefined);
    this.light(items.map((i) => this.visible.shownAs[i]!).filter((i) => i >= 0));
  }

  /** Scrolls to nodes; opens groups around them if that stays readable. */
  reveal(ids: string[], open: boolean): void {
    const items = ids.map((id) => this.tree.ofId.get(id)).filter((i) => i !== undefined);
    if (items.length === 0) return;
    const show = (): void => this.stage.reveal([...new Set(items.map((i) => this.visible.shownAs[i]!))]);
    if (open) {
      const needed = new Set(items.flatMap((i) => ancestors(this.tree, i).map((g) => this.tree.items[g]!.id)));
      const missing = [...needed].filter((id) => !this.expanded.has(id));
      const next = [...this.expanded, ...missing];
      if (missing.length > 0 && missing.length <= 6 && countCards(this.tree, next) <= ASK_ABOVE) {
        this.afterLayout.push(show);
        this.open(next, null);
        return;
      }
    }
    if (this.job) this.afterLayout.push(show);
    else show();
  }

  /** On-screen box of a node's card, in page coordinates. */
  placeOf(id: string): Box | null {
    const item = this.tree.ofId.get(id);
    const shown = item === undefined || this.behind ? -1 : this.visible.shownAs[item]!;
    const box = shown >= 0 ? this.stage.place(shown) : null;
    if (!box) return null;
    const at = this.stage.element.getBoundingClientRect();
    return { ...box, x: box.x + at.left, y: box.y + at.top };
  }

  markColourOf(id: string): string {
    const item = this.tree.ofId.get(id);
    return item === undefined ? this.palette.unknown : this.markColour(item);
  }

  get stageBox(): DOMRect {
    return this.stage.element.getBoundingClientRect();
  }

  /* ------------------------------------------------------------ toolbar */

  private toolbar(label: string): HTMLElement {
    const { params, data } = this;
    const act = (name: IconName, text: string, fn: () => void): HTMLButtonElement => {
      const b = button(name, text);
      this.scope.listen(b, "click", fn);
      return b;
    };
    for (const { name, label: words } of overlayNames(data)) this.overlaySelect.append(h("option", { value: name }, words));
    for (const { name, label: words } of data.groupings) this.groupingSelect.append(h("option", { value: name }, words));
    this.groupingSelect.append(h("option", { value: NO_GROUPING }, "No grouping"));
    this.overlaySelect.value = this.overlay;
    if (this.overlaySelect.selectedIndex < 0) { this.overlay = "kind"; this.overlaySelect.value = "kind"; }
    this.groupingSelect.value = this.grouping;
    if (this.groupingSelect.selectedIndex < 0) { this.grouping = data.groupings[0]?.name ?? NO_GROUPING; this.groupingSelect.value = this.grouping; }
    this.scope.listen(this.overlaySelect, "change", () => {
      this.setOverlay(this.overlaySelect.value);
      params.events?.overlay?.(this.overlay);
    });
    this.scope.listen(this.groupingSelect, "change", () => {
      this.setGrouping(this.groupingSelect.value);
      params.events?.grouping?.(this.grouping);
    });
    const turn = act(this.direction === "TB" ? "vertical" : "horizontal", "Turn: top to bottom or left to right", () => {
      this.direction = this.direction === "TB" ? "LR" : "TB";
      turn.replaceChildren(icon(this.direction === "TB" ? "vertical" : "horizontal"));
      this.relayout(null);
    });
    this.outlineButton = act("outline", "Show or hide the outline", () => this.setOutline(this.outline.element.hidden));
    const save = act("save", "Save as PNG or SVG", () => this.exportMenu(save));
    const zoomButton = (b: HTMLButtonElement): HTMLButtonElement => { b.classList.add("wb-zoom"); return b; };
    return h("div", { class: "wb-bar wb-tools", role: "toolbar", "aria-label": `Tools of ${label}` },
      this.outlineButton,
      h("div", { class: "wb-title", title: label }, this.params.heading ?? label),
      h("label", { class: "wb-field" }, h("span", {}, "Colour"), this.overlaySelect),
      h("label", { class: "wb-field" }, h("span", {}, "Group"), this.groupingSelect),
      this.search.element,
      h("div", { class: "wb-grow" }),
      h("div", { class: "wb-break" }),
      h("div", { class: "wb-group" },
        act("level", "Open one level", () => this.open([...this.expanded, ...openLevel(this.tree, this.visible)], null)),
        act("all", "Open everything", () => this.open(allGroups(this.tree), null)),
        act("collapse", "Close all groups", () => this.open(initialExpanded(this.tree), null)),
      ),
      h("div", { class: "wb-rule" }),
      h("div", { class: "wb-group" },
        zoomButton(act("minus", "Zoom out (−)", () => this.stage.zoomBy(1 / 1.4))),
        zoomButton(act("plus", "Zoom in (+)", () => this.stage.zoomBy(1.4))),
        act("fit", "Show everything (f)", () => this.stage.fitAll()),
        turn, save,
      ),
    );
  }

  private outlineButton: HTMLButtonElement | null = null;

  private setOutline(shown: boolean): void {
    this.outline.element.hidden = !shown;
    this.outlineButton?.setAttribute("aria-pressed", String(shown));
  }

  private exportMenu(at: HTMLElement): void {
    const make = (text: string, fn: () => Promise<void>): HTMLButtonElement => {
      const b = h("button", { type: "button", class: "wb-button wb-line" }, text);
      b.addEventListener("click", this.scope.guard("export", () => {
        this.showPanel(null);
        fn().catch((error: unknown) => this.fail("export", error));
      }));
      return b;
    };
    const close = button("close", "Close");
    close.addEventListener("click", () => { this.showPanel(null); at.focus(); });
    const first = make("Download PNG", async () => download(`${this.fileName()}.png`, await this.png()));
    this.showPanel(h("div", { class: "wb-panel", role: "dialog", "aria-label": "Save the map" }, first,
      make("Download SVG", async () => download(`${this.fileName()}.svg`, new Blob([this.svg().svg], { type: "image/svg+xml" }))),
      make("Copy PNG", async () => {
        needClipboard();
        await navigator.clipboard.write([new ClipboardItem({ "image/png": await this.png() })]);
        this.say("Copied the map as PNG");
      }),
      make("Copy SVG", async () => {
        needClipboard();
        await navigator.clipboard.writeText(this.svg().svg);
        this.say("Copied the map as SVG");
      }), close));
    first.focus();
  }

  private fileName(): string {
    return (this.data.title || this.data.of).replace(/[^\w.-]+/g, "-").replace(/^-+|-+$/g, "") || "graph";
  }

  svg(): { svg: string; width: number; height: number } {
    if (!this.scene) throw new Error("The map has not been laid out yet.");
    return writeSvg({
      scene: this.scene, marks: this.stage.state.marks, flags: this.stage.state.flags, selected: this.stage.state.selected,
      palette: this.palette, title: this.data.title || this.data.of, legend: this.painted?.legend ?? null,
    });
  }

  private async png(): Promise<Blob> {
    const { svg, width, height } = this.svg();
    // Browsers refuse canvases much larger than this on a side or in all.
    const scale = Math.min(2, 16_000 / Math.max(width, height), Math.sqrt(100_000_000 / (width * height)));
    const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    try {
      const image = new Image();
      image.src = url;
      await image.decode();
      const canvas = h("canvas", { width: Math.max(1, Math.floor(width * scale)), height: Math.max(1, Math.floor(height * scale)) });
      canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
      return await new Promise((resolve, reject) => canvas.toBlob((b) => (b ? resolve(b) : reject(new Error("The map is too large for a PNG. Save it as SVG."))), "image/png"));
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  /* ------------------------------------------------------------ layout */

  private toggle(item: number): void {
    const it = this.tree.items[item];
    if (!it || it.node >= 0) return;
    const next = new Set(this.expanded);
    if (this.visible.open.has(item)) next.delete(it.id);
    else next.add(it.id);
    this.open([...next], item);
  }

  /** Opens what is asked for, after asking back if that is very much. */
  private open(ids: string[], keep: number | null): void {
    const before = [...this.expanded];
    const count = countCards(this.tree, ids);
    const go = (): void => {
      this.expanded = new Set(ids);
      this.params.events?.expanded?.([...this.expanded]);
      this.relayout(keep, before);
    };
    if (count <= ASK_ABOVE || count <= this.visible.cards) return go();
    const yes = h("button", { type: "button", class: "wb-button wb-solid" }, "Show them");
    const no = h("button", { type: "button", class: "wb-button wb-line" }, "Cancel");
    yes.addEventListener("click", this.scope.guard("open", () => { this.showPanel(null); go(); }));
    no.addEventListener("click", this.scope.guard("open", () => this.showPanel(null)));
    this.showPanel(h("div", { class: "wb-panel", role: "alertdialog", "aria-label": "Show very many cards?" }, h("span", {}, `This draws ${figures(count)} cards, which may take a while.`), yes, no));
    yes.focus();
  }

  private relayout(keep: number | null, before?: string[]): void {
    this.job?.cancel();
    this.visible = visibleGraph(this.data, this.tree, this.expanded);
    const { tree, visible, direction } = this;
    const job = this.layouts.run(layoutRequest(this.data, tree, visible, direction));
    this.job = job;
    const stopWaiting = this.scope.after("progress", PATIENCE, () => {
      const stop = h("button", { type: "button", class: "wb-button wb-line" }, "Cancel");
      stop.addEventListener("click", this.scope.guard("cancel", () => this.cancelLayout(before)));
      this.showPanel(h("div", { class: "wb-panel", role: "status" }, h("span", { class: "wb-spin", "aria-hidden": "true" }), h("span", {}, `Laying out ${plural(visible.cards, "card")}…`), stop));
    });
    job.result.then(
      this.scope.guard("layout", (result) => {
        stopWaiting();
        if (this.job !== job) return;
        this.job = null;
        this.showPanel(null);
        this.behind = false;
        this.scene = buildScene(this.data, tree, visible, result, direction);
        this.index();
        if (!this.scene.byItem.has(this.stage.state.cursor)) this.stage.state.cursor = -1;
        this.paintMarks();
        this.stage.show(this.scene, keep);
        this.stage.redraw();
        this.showSelection(false);
        this.say();
        for (const then of this.afterLayout.splice(0)) then();
        this.root.dataset["ready"] = String(Number(this.root.dataset["ready"] ?? 0) + 1);
      }),
      (error: unknown) => {
        stopWaiting();
        if (this.job !== job) return;
        this.job = null;
        this.showPanel(null);
        this.fail("layout", error);
      },
    );
  }

  private cancelLayout(before: string[] | undefined): void {
    this.job?.cancel();
    this.job = null;
    this.afterLayout = [];
    this.showPanel(null);
    this.expanded = new Set(before ?? initialExpanded(this.tree));
    this.params.events?.expanded?.([...this.expanded]);
    // Back to what is on screen, or to the least there can be.
    if (this.scene && before && !this.behind) this.visible = visibleGraph(this.data, this.tree, this.expanded);
    else this.relayout(null);
    this.say("Cancelled");
  }

  private index(): void {
    this.adjacency.out.clear();
    this.adjacency.in.clear();
    for (const edge of this.scene!.edges) {
      const add = (map: Map<number, string[]>, at: number): void => {
        const list = map.get(at);
        if (list) list.push(edge.key);
        else map.set(at, [edge.key]);
      };
      add(this.adjacency.out, edge.source);
      add(this.adjacency.in, edge.target);
    }
    this.edgeByKey = new Map(this.scene!.edges.map((e) => [e.key, e]));
  }

  private edgeByKey = new Map<string, Scene["edges"][number]>();

  /* ------------------------------------------------------------ colours */

  private paintMarks(): void {
    this.painted = paintOverlay(this.data, this.overlay, this.tree, this.visible, this.palette);
    const state = this.stage.state;
    state.marks = this.painted.marks;
    state.flags = new Map();
    if (this.params.flags) {
      for (const item of this.visible.items) {
        const node = this.tree.items[item]!.node;
        const flag = node >= 0 ? this.params.flags[node] : null;
        if (flag) state.flags.set(item, flag);
      }
    }
    this.outline.show(this.tree, this.visible, state.marks);
    const conversions = this.scene?.edges.some((e) => e.conversion > 0) ?? false;
    this.legendSlot.replaceChildren(legendElement(this.painted.legend, this.palette, conversions));
  }

  private recolour(): void {
    if (!this.scene) return;
    this.paintMarks();
    this.stage.redraw();
    this.say();
  }

  private setPalette(palette: Palette): void {
    this.palette = palette;
    this.root.dataset["theme"] = palette.name;
    this.stage.setPalette(palette);
    this.recolour();
  }

  private markColour(item: number): string {
    const shown = this.visible.shownAs[item] ?? -1;
    return this.stage.state.marks.get(shown)?.colour ?? this.palette.unknown;
  }

  /* ------------------------------------------------------------ selection */

  private pick(item: number, add: boolean): void {
    this.stage.state.cursor = item;
    const ids = leavesOf(this.tree, item).map((n) => this.data.nodes.id[n]!);
    this.setIds(mergeIds(this.ids, ids, add), true);
  }

  private pickEdge(key: string): void {
    const edge = this.edgeByKey.get(key);
    if (!edge) return;
    const ends = [...leavesOf(this.tree, edge.source), ...leavesOf(this.tree, edge.target)];
    this.setIds(ends.map((n) => this.data.nodes.id[n]!), true);
  }

  private setIds(ids: string[], send: boolean): void {
    this.ids = ids;
    this.showSelection(false);
    this.showDetails({ ids, origin: this.origin, kind: this.data.of });
    if (send) this.sendSelection();
    this.say();
  }

  /** A selection made elsewhere: show it, and bring it into view. */
  private follow(selection: Selection): void {
    if (selection.origin === this.origin) return;
    if (selection.kind !== this.data.of) {
      if (this.details) this.showDetails(selection);
      this.ids = [];
      this.showSelection(false);
      return;
    }
    const known = selection.ids.filter((id) => this.tree.ofId.has(id));
    this.ids = known;
    this.showSelection(true);
    this.showDetails(selection);
    this.reveal(known, known.length <= 24);
    const lost = selection.ids.length - known.length;
    this.say(lost > 0 ? `${plural(lost, "selected id is", "selected ids are")} not in this graph` : undefined);
  }

  private showDetails(selection: Selection): void {
    if (!this.details) return;
    this.details.element.hidden = selection.ids.length === 0;
    this.details.show(selection);
    const over = !this.details.element.hidden && getComputedStyle(this.details.element).position === "absolute";
    this.stage.covered = over ? this.details.element.offsetWidth : 0;
  }

  private showSelection(scroll: boolean): void {
    const { state } = this.stage;
    const chosen = new Map<number, number>();
    for (const id of this.ids) {
      const item = this.tree.ofId.get(id);
      for (let at = item ?? -1; at >= 0; at = this.tree.items[at]!.parent) chosen.set(at, (chosen.get(at) ?? 0) + 1);
    }
    state.selected = new Set();
    state.partial = new Set();
    for (const item of this.visible.items) {
      const count = chosen.get(item) ?? 0;
      if (count === 0) continue;
      if (count >= this.tree.items[item]!.leaves) state.selected.add(item);
      else if (!this.visible.open.has(item)) state.partial.add(item);
    }
    const near = new Set<number>([...state.selected, ...state.partial]);
    const cards = [...near].filter((i) => !this.visible.open.has(i));
    const told = new Set<string>();
    for (const item of cards) {
      for (const key of [...(this.adjacency.out.get(item) ?? []), ...(this.adjacency.in.get(item) ?? [])]) {
        told.add(key);
        const edge = this.edgeByKey.get(key)!;
        near.add(edge.source);
        near.add(edge.target);
      }
    }
    state.related = cards.length > 0 ? near : null;
    this.stage.markEdges(told, cards.length > 0);
    this.outline.select(state.selected, state.partial, scroll);
    this.stage.repaint();
  }

  private light(items: number[]): void {
    this.stage.state.lit = new Set(items);
    this.stage.repaint();
  }

  private jump(item: number): void {
    const missing = ancestors(this.tree, item).map((g) => this.tree.items[g]!.id).filter((id) => !this.expanded.has(id));
    const arrive = (): void => {
      this.pick(item, false);
      this.outline.select(this.stage.state.selected, this.stage.state.partial, true);
      this.stage.reveal([item], true);
      this.stage.element.focus({ preventScroll: true });
    };
    if (missing.length === 0 && !this.behind) return arrive();
    this.afterLayout.push(arrive);
    if (missing.length > 0) this.open([...this.expanded, ...missing], null);
  }

  /* ------------------------------------------------------------ pointer and keys */

  private hover(item: number, edge: string | null, at: { x: number; y: number }): void {
    const open = item >= 0 && this.visible.open.has(item);
    this.stage.state.hover = open ? -1 : item;
    this.stage.repaint();
    this.params.events?.hover?.(item >= 0 && !open ? leavesOf(this.tree, item).map((n) => this.data.nodes.id[n]!) : []);
    if ((item < 0 && !edge) || open) {
      this.tip.hidden = true;
      return;
    }
    this.tip.replaceChildren(...(edge ? this.edgeTip(edge) : this.itemTip(item)));
    this.tip.hidden = false;
    const box = this.stage.element.getBoundingClientRect();
    const w = this.tip.offsetWidth;
    const hh = this.tip.offsetHeight;
    const card = item >= 0 ? this.stage.place(item) : null;
    // Beside the card, not over it: its neighbours along the flow stay readable.
    let x = card ? card.x + card.w + 10 : at.x + 14;
    let y = card ? card.y : at.y + 14;
    if (x + w > box.width - 6) x = card ? card.x - w - 10 : at.x - w - 14;
    if (x < 6) { x = Math.max(6, Math.min(box.width - w - 6, at.x - w / 2)); y = card ? card.y + card.h + 10 : at.y + 18; }
    if (y + hh > box.height - 6) y = Math.max(6, box.height - hh - 6);
    this.tip.style.left = `${x}px`;
    this.tip.style.top = `${Math.max(6, y)}px`;
  }

  private itemTip(item: number): Node[] {
    const it = this.tree.items[item]!;
    const out: Node[] = [h("b", {}, it.label)];
    if (it.label !== it.id && it.node >= 0) out.push(h("span", {}, it.id));
    const sub = subOf(this.data, this.tree, item);
    if (sub) out.push(h("span", {}, sub));
    if (it.node >= 0) out.push(h("span", {}, this.data.kinds[this.data.nodes.kind[it.node]!] ?? ""));
    const overlay = this.data.overlays.find((o) => o.name === this.overlay);
    if (overlay && overlay.type === "categorical" && it.node >= 0) {
      const value = overlay.values[it.node];
      out.push(h("span", {}, `${overlay.label}: ${value === null || value === undefined ? "not known" : (overlay.categories?.[value] ?? "")}`));
    } else if (overlay && overlay.type !== "categorical") {
      const text = this.stage.state.marks.get(item)?.text ?? formatValue(null);
      out.push(h("span", {}, `${overlay.label}: ${text} (${overlay.source})`));
    }
    const flag = this.stage.state.flags.get(item);
    if (flag) out.push(h("span", {}, `${flag.letter}  ${flag.label}`));
    return out;
  }

  private edgeTip(key: string): Node[] {
    const edge = this.edgeByKey.get(key);
    if (!edge) return [];
    const out: Node[] = [];
    const seen = new Set<string>();
    for (const e of edge.edges) {
      const tensor = textAt(this.data.edges.tensor, e) || "tensor";
      if (seen.has(tensor)) continue;
      seen.add(tensor);
      if (seen.size > 5) continue;
      const about = [textAt(this.data.edges.shape, e), textAt(this.data.edges.dtype, e), textAt(this.data.edges.format, e)].filter(Boolean).join(" · ");
      out.push(h("b", {}, tensor), h("span", {}, about));
    }
    if (seen.size > 5) out.push(h("span", {}, `and ${seen.size - 5} more`));
    const name = CONVERSIONS[edge.conversion & 3];
    if (name) out.push(h("span", { class: "wb-warm" }, `converts ${name.replace(" + ", " and ")}`));
    return out;
  }

  private key(event: KeyboardEvent): void {
    const { state } = this.stage;
    const item = state.cursor;
    const follow: Record<string, "in" | "out" | "before" | "after"> = this.direction === "TB"
      ? { ArrowDown: "out", ArrowUp: "in", ArrowLeft: "before", ArrowRight: "after" }
      : { ArrowRight: "out", ArrowLeft: "in", ArrowUp: "before", ArrowDown: "after" };
    const way = follow[event.key];
    if (way) this.walk(way);
    else if (event.key === "Enter" && item >= 0) {
      if (this.tree.items[item]!.node < 0) this.toggle(item);
      else this.pick(item, false);
    } else if (event.key === " " && item >= 0) this.pick(item, true);
    else if (event.key === "Backspace" && item >= 0 && this.tree.items[item]!.parent >= 0) this.toggle(this.tree.items[item]!.parent);
    else if (event.key === "Escape") {
      this.showPanel(null);
      this.search.clear();
      this.setIds([], true);
    } else if (event.key === "f" && !event.ctrlKey && !event.metaKey) this.stage.fitAll();
    else if (event.key === "+" || event.key === "=") this.stage.zoomBy(1.4);
    else if (event.key === "-") this.stage.zoomBy(1 / 1.4);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Along an edge, or to the neighbour across the flow. */
  private walk(way: "in" | "out" | "before" | "after"): void {
    const scene = this.scene;
    if (!scene || scene.cards.length === 0) return;
    const from = scene.byItem.get(this.stage.state.cursor) ?? scene.byItem.get([...this.stage.state.selected][0] ?? -1);
    const tb = this.direction === "TB";
    let to: number | undefined;
    if (!from) to = [...scene.cards].sort((a, b) => (tb ? a.y - b.y : a.x - b.x))[0]!.item;
    else {
      const mid = (b: Box): { along: number; across: number } => ({ along: tb ? b.y + b.h / 2 : b.x + b.w / 2, across: tb ? b.x + b.w / 2 : b.y + b.h / 2 });
      const here = mid(from);
      let candidates: number[];
      if (way === "in" || way === "out") {
        candidates = (this.adjacency[way].get(from.item) ?? []).map((k) => (way === "out" ? this.edgeByKey.get(k)!.target : this.edgeByKey.get(k)!.source));
      } else {
        const sign = way === "after" ? 1 : -1;
        candidates = scene.cards.filter((c) => (mid(c).across - here.across) * sign > 4 && Math.abs(mid(c).along - here.along) < (tb ? 120 : 280)).map((c) => c.item);
      }
      const cost = (i: number): number => {
        const there = mid(scene.byItem.get(i)!);
        return Math.abs(there.across - here.across) + Math.abs(there.along - here.along) * (way === "in" || way === "out" ? 1 : 3);
      };
      to = candidates.sort((a, b) => cost(a) - cost(b))[0];
    }
    if (to === undefined) {
      this.say(way === "out" ? "Nothing follows" : way === "in" ? "Nothing comes before" : "Nothing beside");
      return;
    }
    this.pick(to, false);
    this.outline.select(this.stage.state.selected, this.stage.state.partial, true);
    this.stage.reveal([to]);
    const it = this.tree.items[to]!;
    this.say(`${it.label}, ${subOf(this.data, this.tree, to)}`);
  }

  /* ------------------------------------------------------------ words */

  private textOf(item: number): string {
    const it = this.tree.items[item]!;
    return it.node < 0 ? "" : `${subOf(this.data, this.tree, item)} ${this.data.kinds[this.data.nodes.kind[it.node]!] ?? ""}`;
  }

  private say(message?: string): void {
    if (message) {
      this.status.textContent = message;
      return;
    }
    const total = this.data.nodes.id.length;
    const shown = this.visible.cards;
    const count = shown === total ? words(this.data, total) : `${plural(shown, "card")} for ${words(this.data, total)}`;
    this.status.textContent = this.ids.length ? `${figures(this.ids.length)} selected · ${count}` : count;
  }

  private showPanel(panel: HTMLElement | null): void {
    this.panel?.remove();
    this.panel = panel;
    if (panel) this.stage.element.parentElement?.append(panel);
  }

  private fail(where: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    const close = button("close", "Dismiss");
    close.addEventListener("click", () => this.errorSlot.replaceChildren());
    this.errorSlot.replaceChildren(h("div", { class: "wb-error" }, h("span", {}, `The map could not finish "${where}": ${message}`), close));
    this.params.onError(where, error);
  }
}

/** Browsers offer the clipboard to https pages and to localhost only. */
function needClipboard(): void {
  if (!("clipboard" in navigator) || typeof ClipboardItem === "undefined") {
    throw new Error("This page may not write to the clipboard, as it is not served over https. Download the file instead.");
  }
}
