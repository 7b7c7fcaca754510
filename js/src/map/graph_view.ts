/**
 * GraphView: one map with its toolbar, outline, legend and details. It knows neither Jupyter nor
 * compilers: it gets an element, data, a selection to share and a few callbacks.
 */
import { injectCss } from "../css";
import { reviveGraph } from "../decode";
import { DetailsPanel } from "../details/details";
import { h, Scope } from "../dom";
import { mergeIds, newOrigin } from "../selection";
import { followTheme, PALETTES, themeOf, type Palette } from "../theme";
import type { GraphData, Selection } from "../types";
import { plural } from "../units";
import { EdgeIndex } from "./edges";
import { flagsOf, highlight } from "./highlight";
import type { Direction } from "./layout";
import { LayoutRun } from "./layout_run";
import { legendElement } from "./legend";
import { Outline } from "./outline";
import { overlayNames, paintOverlay, type Painted } from "./overlay";
import { askForMany, progressPanel } from "./panels";
import type { GraphViewParams } from "./params";
import { Parts } from "./parts";
import { saveMenu, type Drawing } from "./save";
import { buildScene, countText, describe, layoutRequest, subOf, textOf, type Box, type Scene } from "./scene";
import { findItems, Search } from "./search";
import { Stage } from "./stage";
import { writeSvg } from "./svg";
import { edgeTip, itemTip, placeTip } from "./tips";
import { choose, toolbar } from "./toolbar";
import {
  allGroups, ASK_ABOVE, buildTree, closedAround, countCards, firstGrouping, groupingOf, idsWithin, initialExpanded, NO_GROUPING, openLevel, startExpanded, type Tree, visibleGraph, type VisibleGraph,
} from "./visible";
import { neighborOf, wayOf, type Way } from "./walk";

const SELECTION_WAIT = 60;
const ROOM_FOR_OUTLINE = 900;

export class GraphView {
  readonly root: HTMLElement;
  readonly origin: string;
  private readonly scope: Scope;
  private readonly data: GraphData;
  private readonly parts = new Parts();
  private readonly layouts: LayoutRun;
  private readonly stage: Stage;
  private readonly outline: Outline;
  private readonly search: Search;
  private readonly details: DetailsPanel | null;
  private readonly sendSelection: () => void;

  private tree: Tree;
  private visible: VisibleGraph;
  private scene: Scene | null = null;
  private edges = new EdgeIndex([]);
  private painted: Painted | null = null;
  private palette: Palette;
  private expanded: Set<string>;
  private overlay: string;
  private grouping: string;
  private direction: Direction;
  private ids: string[] = [];
  /** The drawing on screen is still that of another grouping: clicks on it mean nothing here. */
  private behind = false;

  constructor(private readonly params: GraphViewParams) {
    const { element, data, options = {}, state = {} } = params;
    this.data = reviveGraph(data);
    this.origin = newOrigin(`graph-${data.of}`);
    this.scope = new Scope((where, error) => this.fail(where, error));
    this.layouts = new LayoutRun(this.scope);
    injectCss(element);
    this.palette = PALETTES[themeOf(element, options.theme)];
    this.direction = options.direction ?? "TB";
    this.overlay = state.overlay || "kind";
    this.grouping = state.grouping || firstGrouping(data);
    this.tree = buildTree(data, groupingOf(data, this.grouping));
    this.expanded = new Set(startExpanded(this.tree, state.expanded));
    this.visible = visibleGraph(data, this.tree, this.expanded);

    const label = data.title || (data.of === "layer" ? "Plan" : "Graph");
    this.stage = new Stage(this.scope, `${label}. Arrow keys follow edges, Enter opens a group, slash searches.`, this.palette, {
      tap: this.inTime((item: number, add: boolean) => this.pick(item, add)),
      toggle: this.inTime((item: number) => this.toggle(item)),
      tapEdge: this.inTime((key: string) => this.pickEdge(key)),
      tapNothing: () => this.setIds([], true),
      hover: this.inTime((item: number, edge: string | null, at: { x: number; y: number }) => this.hover(item, edge, at)),
      key: this.inTime((event: KeyboardEvent) => this.key(event)),
      moved: () => { this.parts.tip.hidden = true; },
    });
    this.outline = new Outline(this.scope, `Outline of ${label}`, {
      pick: this.inTime((item: number, add: boolean) => { this.pick(item, add); this.stage.reveal([item]); }),
      toggle: this.inTime((item: number) => this.toggle(item)),
      hover: this.inTime((item: number) => this.light(item < 0 ? [] : [item])),
      close: () => this.setOutline(false),
    });
    this.search = new Search(this.scope, {
      find: (query) => findItems(this.tree, (i) => textOf(data, this.tree, i), query),
      describe: (item) => ({ ...describe(data, this.tree, item), color: this.markColor(item) }),
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

    this.stage.element.append(this.parts.tip);
    if (data.nodes.id.length === 0) this.stage.element.append(h("div", { class: "wb-empty" }, `There are no ${data.of === "layer" ? "layers" : "nodes"} to draw.`));
    this.root = this.parts.frame(label, this.palette.name, this.toolbar(label), [this.outline.element, this.stage.element, this.details?.element ?? null], params.extraLegend ?? null);
    this.root.style.height = `${options.height ?? 560}px`;
    element.append(this.root);
    this.scope.add(() => this.root.remove());
    this.setOutline(options.outline ?? false);
    if (options.outline === undefined || options.outline === null) this.scope.whenSized(this.root, (width) => this.setOutline(width >= ROOM_FOR_OUTLINE));

    this.sendSelection = this.scope.debounce("selection", SELECTION_WAIT, () => {
      params.link.set({ ids: this.ids, origin: this.origin, kind: data.of });
    });
    this.scope.add(params.link.subscribe(this.scope.guard("selection", (s: Selection) => this.follow(s))));
    this.scope.add(followTheme(element, options.theme, this.scope.guard("theme", (name) => this.setPalette(PALETTES[name]))));
    this.search.focusOnSlash(this.root);
    const start = params.link.get();
    if (start.kind === data.of) this.ids = start.ids.filter((id) => this.tree.ofId.has(id));
    this.relayout(null);
    if (this.ids.length) this.layouts.after(() => this.follow({ ...start, origin: "start" }));
  }

  dispose(): void {
    this.scope.dispose();
  }

  /** Ignores events while the drawing on screen is out of date. */
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
    this.parts.overlay.value = known;
    if (known === this.overlay) return;
    this.overlay = known;
    this.recolor();
  }

  setGrouping(name: string): void {
    const known = name === NO_GROUPING || this.data.groupings.some((g) => g.name === name) ? name : firstGrouping(this.data);
    this.parts.grouping.value = known;
    if (known === this.grouping) return;
    this.grouping = known;
    this.tree = buildTree(this.data, groupingOf(this.data, known));
    this.expanded = new Set(initialExpanded(this.tree));
    this.behind = this.scene !== null;
    const { state } = this.stage;
    state.cursor = state.hover = -1;
    state.lit = new Set();
    this.parts.tip.hidden = true;
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
      const missing = closedAround(this.tree, items, this.expanded);
      const next = [...this.expanded, ...missing];
      if (missing.length > 0 && missing.length <= 6 && countCards(this.tree, next) <= ASK_ABOVE) {
        this.layouts.after(show);
        this.open(next, null);
        return;
      }
    }
    if (this.layouts.busy) this.layouts.after(show);
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

  markColorOf(id: string): string {
    const item = this.tree.ofId.get(id);
    return item === undefined ? this.palette.unknown : this.markColor(item);
  }

  get stageBox(): DOMRect {
    return this.stage.element.getBoundingClientRect();
  }

  /* ------------------------------------------------------------ toolbar */

  private toolbar(label: string): HTMLElement {
    const { params, data, stage } = this;
    this.overlay = choose(this.parts.overlay, overlayNames(data), this.overlay, "kind");
    this.grouping = choose(this.parts.grouping, [...data.groupings, { name: NO_GROUPING, label: "No grouping" }], this.grouping, firstGrouping(data));
    this.scope.listen(this.parts.overlay, "change", () => {
      this.setOverlay(this.parts.overlay.value);
      params.events?.overlay?.(this.overlay);
    });
    this.scope.listen(this.parts.grouping, "change", () => {
      this.setGrouping(this.parts.grouping.value);
      params.events?.grouping?.(this.grouping);
    });
    const { element, outline } = toolbar(this.scope, {
      label, heading: params.heading ?? label, direction: this.direction,
      overlay: this.parts.overlay, grouping: this.parts.grouping, search: this.search.element,
      outline: () => this.setOutline(this.outline.element.hidden),
      openLevel: () => this.open([...this.expanded, ...openLevel(this.tree, this.visible)], null),
      openAll: () => this.open(allGroups(this.tree), null),
      closeAll: () => this.open(initialExpanded(this.tree), null),
      zoom: (factor) => stage.zoomBy(factor),
      fit: () => stage.fitAll(),
      turn: (direction) => { this.direction = direction; this.relayout(null); },
      save: (at) => this.saveMenu(at),
    });
    this.outlineButton = outline;
    return element;
  }

  private outlineButton: HTMLButtonElement | null = null;

  private setOutline(shown: boolean): void {
    this.outline.element.hidden = !shown;
    this.outlineButton?.setAttribute("aria-pressed", String(shown));
  }

  private saveMenu(at: HTMLElement): void {
    const { panel, first } = saveMenu({
      title: this.data.title || this.data.of, svg: () => this.drawing(), scope: this.scope, done: (message) => this.say(message),
      failed: (error) => this.fail("export", error), close: (back) => { this.showPanel(null); if (back) at.focus(); },
    });
    this.showPanel(panel);
    first.focus();
  }

  private drawing(): Drawing {
    if (!this.scene) throw new Error("The map has not been laid out yet.");
    const { marks, flags, selected } = this.stage.state;
    return writeSvg({ scene: this.scene, marks, flags, selected, palette: this.palette, title: this.data.title || this.data.of, legend: this.painted?.legend ?? null });
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

  /** Opens what is asked for, after a question if that is very much. */
  private open(ids: string[], keep: number | null): void {
    const before = [...this.expanded];
    const count = countCards(this.tree, ids);
    const go = (): void => {
      this.expanded = new Set(ids);
      this.params.events?.expanded?.([...this.expanded]);
      this.relayout(keep, before);
    };
    if (count <= ASK_ABOVE || count <= this.visible.cards) return go();
    const { panel, yes } = askForMany(count, this.scope, go, () => this.showPanel(null));
    this.showPanel(panel);
    yes.focus();
  }

  private relayout(keep: number | null, before?: string[]): void {
    this.visible = visibleGraph(this.data, this.tree, this.expanded);
    const { tree, visible, direction } = this;
    this.layouts.start(layoutRequest(this.data, tree, visible, direction), {
      slow: () => this.showPanel(progressPanel(visible.cards, this.scope, () => this.cancelLayout(before))),
      failed: (error) => { this.showPanel(null); this.fail("layout", error); },
      done: (result) => {
        this.showPanel(null);
        this.behind = false;
        this.scene = buildScene(this.data, tree, visible, result, direction);
        this.edges = new EdgeIndex(this.scene.edges);
        if (!this.scene.byItem.has(this.stage.state.cursor)) this.stage.state.cursor = -1;
        this.paintMarks();
        this.stage.show(this.scene, keep);
        this.stage.redraw();
        this.showSelection(false);
        this.say();
        this.layouts.after(() => { this.root.dataset["ready"] = String(Number(this.root.dataset["ready"] ?? 0) + 1); });
      },
    });
  }

  private cancelLayout(before: string[] | undefined): void {
    this.layouts.cancel();
    this.showPanel(null);
    this.expanded = new Set(before ?? initialExpanded(this.tree));
    this.params.events?.expanded?.([...this.expanded]);
    // Back to what is on screen, or to the least there can be.
    if (this.scene && before && !this.behind) this.visible = visibleGraph(this.data, this.tree, this.expanded);
    else this.relayout(null);
    this.say("Cancelled");
  }

  /* ------------------------------------------------------------ colors */

  private paintMarks(): void {
    this.painted = paintOverlay(this.data, this.overlay, this.tree, this.visible, this.palette);
    const state = this.stage.state;
    state.marks = this.painted.marks;
    state.flags = flagsOf(this.tree, this.visible, this.params.flags ?? []);
    this.outline.show(this.tree, this.visible, state.marks);
    const conversions = this.scene?.edges.some((e) => e.conversion > 0) ?? false;
    this.parts.legend.replaceChildren(legendElement(this.painted.legend, this.palette, conversions));
  }

  private recolor(): void {
    if (!this.scene) return;
    this.paintMarks();
    this.stage.redraw();
    this.say();
  }

  private setPalette(palette: Palette): void {
    this.palette = palette;
    this.root.dataset["theme"] = palette.name;
    this.stage.setPalette(palette);
    this.recolor();
  }

  private markColor(item: number): string {
    const shown = this.visible.shownAs[item] ?? -1;
    return this.stage.state.marks.get(shown)?.color ?? this.palette.unknown;
  }

  /* ------------------------------------------------------------ selection */

  private pick(item: number, add: boolean): void {
    this.stage.state.cursor = item;
    this.setIds(mergeIds(this.ids, idsWithin(this.data, this.tree, item), add), true);
  }

  private pickEdge(key: string): void {
    const edge = this.edges.get(key);
    if (!edge) return;
    this.setIds([edge.source, edge.target].flatMap((item) => idsWithin(this.data, this.tree, item)), true);
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
    this.stage.covered = this.details.covers;
  }

  private showSelection(scroll: boolean): void {
    const { state } = this.stage;
    const { selected, partial, related, edges } = highlight(this.tree, this.visible, this.edges, this.ids);
    Object.assign(state, { selected, partial, related });
    this.stage.markEdges(edges, related !== null);
    this.outline.select(state.selected, state.partial, scroll);
    this.stage.repaint();
  }

  private light(items: number[]): void {
    this.stage.state.lit = new Set(items);
    this.stage.repaint();
  }

  private jump(item: number): void {
    const missing = closedAround(this.tree, [item], this.expanded);
    const arrive = (): void => {
      this.pick(item, false);
      this.outline.select(this.stage.state.selected, this.stage.state.partial, true);
      this.stage.reveal([item], true);
      this.stage.element.focus({ preventScroll: true });
    };
    if (missing.length === 0 && !this.behind) return arrive();
    this.layouts.after(arrive);
    if (missing.length > 0) this.open([...this.expanded, ...missing], null);
  }

  /* ------------------------------------------------------------ pointer and keys */

  private hover(item: number, edge: string | null, at: { x: number; y: number }): void {
    const open = item >= 0 && this.visible.open.has(item);
    this.stage.state.hover = open ? -1 : item;
    this.stage.repaint();
    this.params.events?.hover?.(item >= 0 && !open ? idsWithin(this.data, this.tree, item) : []);
    const { stage, data, tree } = this;
    const found = edge ? this.edges.get(edge) : undefined;
    this.parts.tip.hidden = (item < 0 && !found) || open;
    if (this.parts.tip.hidden) return;
    const text = found ? edgeTip(data, found) : itemTip(data, tree, item, this.overlay, stage.state.marks.get(item)?.text, stage.state.flags.get(item));
    placeTip(this.parts.tip, text, stage.element.getBoundingClientRect(), item >= 0 ? stage.place(item) : null, at);
  }

  private key(event: KeyboardEvent): void {
    const { state } = this.stage;
    const item = state.cursor;
    const way = wayOf(event.key, this.direction);
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
    } else if (!this.stage.key(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Along an edge, or to the neighbor across the flow. */
  private walk(way: Way): void {
    const { scene, stage } = this;
    if (!scene || scene.cards.length === 0) return;
    const from = scene.byItem.get(stage.state.cursor) ?? scene.byItem.get([...stage.state.selected][0] ?? -1);
    const to = neighborOf(scene, this.edges, from, way, this.direction);
    if (to === undefined) {
      this.say(way === "out" ? "Nothing follows" : way === "in" ? "Nothing comes before" : "Nothing beside");
      return;
    }
    this.pick(to, false);
    this.outline.select(stage.state.selected, stage.state.partial, true);
    stage.reveal([to]);
    const it = this.tree.items[to]!;
    this.say(`${it.label}, ${subOf(this.data, this.tree, to)}`);
  }

  /* ------------------------------------------------------------ words */

  private say(message?: string): void {
    this.parts.status.textContent = message ?? countText(this.data, this.visible.cards, this.ids.length);
  }

  private showPanel(panel: HTMLElement | null): void {
    this.parts.showPanel(panel, this.stage.element);
  }

  private fail(where: string, error: unknown): void {
    this.parts.showError(where, error);
    this.params.onError(where, error);
  }
}
