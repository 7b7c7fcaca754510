/** The canvas stack of one map: frames below, edges in the middle, cards on top, minimap in a corner. */
import { h, type Scope } from "../dom";
import { TITLE } from "./layout";
import { Minimap } from "./minimap";
import { type Camera, paintCards, paintFrames, type PaintState, type View } from "./paint";
import { Renderer } from "./render";
import { bounds, type Box, type Scene } from "./scene";
import type { Palette } from "../theme";

export interface StageEvents {
  tap(item: number, add: boolean): void;
  toggle(item: number): void;
  tapEdge(key: string): void;
  tapNothing(): void;
  hover(item: number, edge: string | null, at: { x: number; y: number }): void;
  key(event: KeyboardEvent): void;
  /** The camera moved: what floats beside a card is out of place. */
  moved(): void;
}

/** A drawing that would be smaller than this when shown whole starts at its beginning instead. */
const LEAST_FIRST_ZOOM = 0.68;
const FIRST_ZOOM = 0.85;
/** The least at which cards show all that is written on them. */
const READABLE_ZOOM = 0.75;

export function emptyState(): PaintState {
  return {
    selected: new Set(), partial: new Set(), lit: new Set(), matches: new Set(), related: null, linked: new Set(),
    hover: -1, cursor: -1, marks: new Map(), flags: new Map(),
  };
}

/** One press of a zoom button or key. */
export const ZOOM_STEP = 1.4;

export class Stage {
  readonly element: HTMLElement;
  readonly state: PaintState = emptyState();
  readonly repaint: () => void;
  private readonly below: HTMLCanvasElement;
  private readonly above: HTMLCanvasElement;
  private readonly renderer: Renderer;
  private readonly minimap: Minimap;
  private readonly hint: HTMLElement;
  private scene: Scene | null = null;
  /** A camera asked for while the stage had no size; taken up when it gets one. */
  private pending: (() => void) | null = null;
  /** The wheel zooms only after a click in the map, so that it does not trap the page. */
  private engaged = false;
  private stopHint: () => void = () => undefined;
  private ratio = 1;
  /** Pixels at the right that a panel lies over. */
  covered = 0;
  private seen: Camera = { x: 0, y: 0, zoom: 0 };

  constructor(private readonly scope: Scope, label: string, private palette: Palette, private readonly events: StageEvents) {
    this.below = h("canvas", { "aria-hidden": "true" });
    this.above = h("canvas", { "aria-hidden": "true" });
    const host = h("div", { class: "wb-cy", "aria-hidden": "true" });
    this.hint = h("div", { class: "wb-hint", hidden: true }, "Click the map, or hold Ctrl, to zoom with the wheel");
    this.element = h("div", {
      class: "wb-stage", tabindex: 0, role: "group", "aria-roledescription": "graph", "aria-label": label,
      "data-jp-suppress-context-menu": "true",
    }, this.below, host, this.above);
    this.repaint = scope.perFrame("paint", () => this.paint());
    this.minimap = new Minimap(scope, (x, y) => {
      const { zoom } = this.renderer.camera;
      const { w, h: hh } = this.renderer.size;
      this.renderer.setCamera({ zoom, x: w / 2 - x * zoom, y: hh / 2 - y * zoom });
    });
    this.element.append(this.minimap.element, this.hint);
    this.renderer = new Renderer(host, scope, {
      drawn: () => this.paint(),
      tap: (item, at, add) => this.onTap(item, at, add),
      doubleTap: (item, at) => {
        const card = this.scene?.byItem.get(item);
        // The body of an open group is background: only its title answers.
        if (card && (!card.open || at.y < card.y + TITLE)) events.toggle(item);
      },
      tapEdge: (key) => events.tapEdge(key),
      tapNothing: () => events.tapNothing(),
      enter: (item, edge, at) => {
        this.element.classList.toggle("wb-over", item < 0 || !this.scene?.byItem.get(item)?.open);
        this.renderer.hoverEdge(edge);
        events.hover(item, edge, at);
      },
      leave: () => {
        this.element.classList.remove("wb-over");
        this.renderer.hoverEdge(null);
        events.hover(-1, null, { x: 0, y: 0 });
      },
    }, palette);

    scope.listen(this.element, "pointerdown", () => { this.engaged = true; });
    // cytoscape takes the focus away on a press; the keyboard must go on working after a click.
    scope.listen(this.element, "mousedown", () => this.element.focus({ preventScroll: true }));
    scope.listen(document, "pointerdown", (event) => {
      if (!event.composedPath().includes(this.element)) this.engaged = false;
    }, { capture: true });
    scope.listen(this.element, "wheel", (event) => this.onWheel(event), { passive: false });
    scope.listen(this.element, "keydown", (event) => {
      if (event.key === "Escape") this.engaged = false;
      if (event.target === this.element) events.key(event);
    });
    scope.onResize(this.element, () => this.fitToBox());
    scope.onShown(this.element, () => this.fitToBox());
  }

  /** A new drawing. `keep` names an item whose place on screen must not change. */
  show(scene: Scene, keep: number | null): void {
    const before = keep === null ? undefined : this.scene?.byItem.get(keep);
    const camera = this.renderer.camera;
    const first = this.scene === null;
    this.scene = scene;
    this.renderer.show(scene);
    const after = keep === null ? undefined : scene.byItem.get(keep);
    if (before && after) {
      this.renderer.setCamera({ zoom: camera.zoom, x: camera.x + (before.x - after.x) * camera.zoom, y: camera.y + (before.y - after.y) * camera.zoom });
    } else {
      this.whenSized(() => this.start(!first));
    }
    this.repaint();
  }

  /** The marks or the theme changed: the minimap must be drawn anew. */
  redraw(): void {
    if (this.scene) this.minimap.draw(this.scene, this.state.marks, this.palette, this.element.clientWidth);
    this.repaint();
  }

  setPalette(palette: Palette): void {
    this.palette = palette;
    this.renderer.setPalette(palette);
  }

  markEdges(keys: Set<string>, dimOthers: boolean): void {
    this.state.linked = keys;
    this.renderer.markEdges(keys, dimOthers);
  }

  /** Whole if that can be read, else the beginning at a readable size. */
  start(glide: boolean): void {
    if (!this.scene) return;
    const { direction, width, height } = this.scene;
    const whole = this.renderer.cameraFor({ x: 0, y: 0, w: width, h: height });
    let camera = whole;
    if (whole.zoom < LEAST_FIRST_ZOOM) {
      const { w, h: hh } = this.renderer.size;
      const across = direction === "TB" ? (w - 56) / width : (hh - 56) / height;
      const zoom = Math.min(FIRST_ZOOM, Math.max(LEAST_FIRST_ZOOM, across));
      const first = this.firstCard();
      camera = direction === "TB"
        ? { zoom, x: w / 2 - (first.x + first.w / 2) * zoom, y: 24 - Math.min(first.y, 40) * zoom }
        : { zoom, x: 24 - Math.min(first.x, 40) * zoom, y: hh / 2 - (first.y + first.h / 2) * zoom };
      // Prefer the middle of the drawing where it fits across.
      if (direction === "TB" && width * zoom < w) camera.x = w / 2 - (width / 2) * zoom;
      if (direction === "LR" && height * zoom < hh) camera.y = hh / 2 - (height / 2) * zoom;
    }
    if (glide) this.renderer.moveTo(camera);
    else this.renderer.setCamera(camera);
  }

  fitAll(): void {
    if (this.scene) this.renderer.moveTo(this.renderer.cameraFor({ x: 0, y: 0, w: this.scene.width, h: this.scene.height }));
  }

  /** Zooms by a key: f, + and -. Returns whether the key was one of these. */
  key(event: KeyboardEvent): boolean {
    if (event.key === "f" && !event.ctrlKey && !event.metaKey) this.fitAll();
    else if (event.key === "+" || event.key === "=") this.zoomBy(ZOOM_STEP);
    else if (event.key === "-") this.zoomBy(1 / ZOOM_STEP);
    else return false;
    return true;
  }

  zoomBy(factor: number): void {
    this.renderer.zoomBy(factor);
  }

  /** Brings items into view, moving only if they are not. */
  reveal(items: number[], force = false): void {
    const boxes = items.map((i) => this.scene?.byItem.get(i)).filter((c) => c !== undefined);
    if (boxes.length === 0) return;
    this.whenSized(() => {
      // A panel that has just opened beside the map has changed its size.
      this.fitToBox();
      const box = bounds(boxes);
      const camera = this.renderer.camera;
      const { w: full, h: hh } = this.renderer.size;
      const w = Math.max(120, full - this.covered);
      const left = box.x * camera.zoom + camera.x;
      const top = box.y * camera.zoom + camera.y;
      const inside = left >= 8 && top >= 8 && left + box.w * camera.zoom <= w - 8 && top + box.h * camera.zoom <= hh - 8;
      if (inside && !force && camera.zoom > 0.35) return;
      const whole = this.renderer.cameraFor(box, 60);
      const zoom = Math.min(1, Math.max(whole.zoom, READABLE_ZOOM));
      // If not all of it can be shown at a readable size, show its beginning.
      const fits = box.w * zoom <= w && box.h * zoom <= hh;
      const target = fits ? box : boxes[0]!;
      this.renderer.moveTo({ zoom, x: w / 2 - (target.x + target.w / 2) * zoom, y: hh / 2 - (target.y + target.h / 2) * zoom });
    });
  }

  /** Where a card is on screen, relative to the stage. */
  place(item: number): Box | null {
    const card = this.scene?.byItem.get(item);
    if (!card) return null;
    const { x, y, zoom } = this.renderer.camera;
    return { x: card.x * zoom + x, y: card.y * zoom + y, w: card.w * zoom, h: card.h * zoom };
  }

  private firstCard(): Box {
    const all = this.scene!.byItem.values();
    let best: Box | null = null;
    for (const c of all) {
      if (!best || (this.scene!.direction === "TB" ? c.y < best.y : c.x < best.x)) best = c;
    }
    return best ?? { x: 0, y: 0, w: 0, h: 0 };
  }

  private onTap(item: number, at: { x: number; y: number }, add: boolean): void {
    const card = this.scene?.byItem.get(item);
    if (!card) return;
    const onTwist = card.open ? at.y < card.y + TITLE && at.x < card.x + 34 : card.group && at.x > card.x + card.w - 28;
    if (onTwist) this.events.toggle(item);
    // The body of an open group is background; its title stands for the group.
    else if (card.open && at.y > card.y + TITLE) this.events.tapNothing();
    else this.events.tap(item, add);
  }

  private onWheel(event: WheelEvent): void {
    if (!this.engaged && !event.ctrlKey && !event.metaKey) {
      this.hint.hidden = false;
      this.stopHint();
      this.stopHint = this.scope.after("hint", 1400, () => { this.hint.hidden = true; });
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    this.hint.hidden = true;
    const box = this.element.getBoundingClientRect();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const by = Math.max(-120, Math.min(120, event.deltaY * lines));
    this.renderer.zoomBy(Math.exp(-by * 0.0022), { x: event.clientX - box.left, y: event.clientY - box.top });
  }

  private whenSized(fn: () => void): void {
    if (this.element.clientWidth > 0 && this.element.clientHeight > 0) fn();
    else this.pending = fn;
  }

  /** Also when the output was detached and comes back with blank canvases. */
  private fitToBox(): void {
    const w = this.element.clientWidth;
    const hh = this.element.clientHeight;
    if (w === 0 || hh === 0) return;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    // A pane may begin between two pixels, and be as wide as a fraction; canvases must not, or their
    // text is blurred.
    const at = this.element.getBoundingClientRect();
    const shift = { x: Math.round(at.left) - at.left, y: Math.round(at.top) - at.top };
    for (const canvas of [this.below, this.above]) {
      canvas.style.cssText = `left:${shift.x}px;top:${shift.y}px;width:${w}px;height:${hh}px`;
      if (canvas.width !== Math.round(w * this.ratio) || canvas.height !== Math.round(hh * this.ratio)) {
        canvas.width = Math.round(w * this.ratio);
        canvas.height = Math.round(hh * this.ratio);
      }
    }
    this.renderer.resize();
    const pending = this.pending;
    this.pending = null; // before the call, which may come back here
    pending?.();
    this.paint();
  }

  private paint(): void {
    if (!this.scene || this.element.clientWidth === 0) return;
    const view = (canvas: HTMLCanvasElement): View => ({
      ctx: canvas.getContext("2d")!, width: this.element.clientWidth, height: this.element.clientHeight, ratio: this.ratio, camera: this.renderer.camera,
    });
    const camera = this.renderer.camera;
    if (camera.x !== this.seen.x || camera.y !== this.seen.y || camera.zoom !== this.seen.zoom) {
      this.seen = camera;
      this.events.moved();
    }
    paintFrames(view(this.below), this.scene, this.state, this.palette);
    paintCards(view(this.above), this.scene, this.state, this.palette);
    this.minimap.frame(this.renderer.camera, this.element.clientWidth, this.element.clientHeight);
  }
}
