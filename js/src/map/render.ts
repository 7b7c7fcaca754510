/**
 * The only file that calls cytoscape. It owns the camera, the edges and what the pointer meets;
 * frames and cards are painted on the canvases around it, at the same camera.
 */
import cytoscape from "cytoscape";
import type { Scope } from "../dom";
import type { Camera } from "./paint";
import type { Box, Scene, SceneEdge } from "./scene";
import type { Palette } from "../theme";

export interface RenderEvents {
  /** After each drawn frame. */
  drawn(): void;
  tap(item: number, at: { x: number; y: number }, add: boolean): void;
  doubleTap(item: number, at: { x: number; y: number }): void;
  tapEdge(key: string): void;
  tapNothing(): void;
  enter(item: number, edge: string | null, at: { x: number; y: number }): void;
  leave(): void;
}

const MIN_ZOOM = 0.004;
const MAX_ZOOM = 2.5;

export class Renderer {
  private readonly cy: cytoscape.Core;
  private edges = new Map<string, cytoscape.EdgeSingular>();
  private marked = new Set<string>();
  private dimmed = false;
  private moving = 0;
  /** Sideways shift of a glide under way. */
  private drift = 0;

  constructor(host: HTMLElement, private readonly scope: Scope, events: RenderEvents, palette: Palette) {
    this.cy = cytoscape({
      container: host,
      elements: [],
      style: sheet(palette),
      layout: { name: "preset" },
      minZoom: MIN_ZOOM,
      maxZoom: MAX_ZOOM,
      // The wheel is ours: it must not trap the scrolling of the page.
      userZoomingEnabled: false,
      boxSelectionEnabled: false,
      autoungrabify: true,
      autounselectify: true,
      selectionType: "single",
      pixelRatio: Math.min(2, window.devicePixelRatio || 1),
    });
    const on = (name: string, selector: string | null, fn: (event: cytoscape.EventObject) => void): void => {
      const guarded = scope.guard(`map ${name}`, fn);
      if (selector) this.cy.on(name, selector, guarded);
      else this.cy.on(name, guarded);
    };
    const itemOf = (event: cytoscape.EventObject): number => Number((event.target as cytoscape.NodeSingular).id().slice(1));
    on("render", null, () => events.drawn());
    on("tap", "node", (e) => {
      const original = e.originalEvent as MouseEvent | undefined;
      events.tap(itemOf(e), e.position, Boolean(original && (original.ctrlKey || original.metaKey || original.shiftKey)));
    });
    on("dbltap", "node", (e) => events.doubleTap(itemOf(e), e.position));
    on("tap", "edge", (e) => events.tapEdge((e.target as cytoscape.EdgeSingular).data("key") as string));
    on("tap", null, (e) => { if (e.target === this.cy) events.tapNothing(); });
    on("mouseover", "node", (e) => events.enter(itemOf(e), null, e.renderedPosition));
    on("mouseover", "edge", (e) => events.enter(-1, (e.target as cytoscape.EdgeSingular).data("key") as string, e.renderedPosition));
    on("mouseout", "node,edge", () => events.leave());
    // cytoscape remembers where its container is and misses what moves it, such as a box above that grows.
    let place = host.getBoundingClientRect();
    const look = (): void => {
      const now = host.getBoundingClientRect();
      if (now.x !== place.x || now.y !== place.y) this.cy.resize();
      place = now;
    };
    for (const name of ["pointerenter", "pointermove", "pointerdown"] as const) scope.listen(host, name, look, { capture: true });
    scope.add(() => {
      cancelAnimationFrame(this.moving);
      this.cy.destroy();
    });
  }

  show(scene: Scene): void {
    const nodes: cytoscape.ElementDefinition[] = [];
    for (const card of [...scene.frames, ...scene.cards]) {
      nodes.push({
        group: "nodes",
        data: { id: `i${card.item}`, w: card.w, h: card.h, z: card.open ? card.depth : 200 },
        position: { x: card.x + card.w / 2, y: card.y + card.h / 2 },
        pannable: true,
      });
    }
    const edges = scene.edges.map((edge) => edgeElement(edge, scene));
    this.cy.batch(() => {
      this.cy.elements().remove();
      this.cy.add([...nodes, ...edges]);
    });
    this.edges = new Map(this.cy.edges().map((e) => [e.data("key") as string, e]));
    this.marked = new Set();
    this.dimmed = false;
  }

  setPalette(palette: Palette): void {
    this.cy.style(sheet(palette));
  }

  /** Edges that belong to the selection; the others step back while there is one. */
  markEdges(keys: Set<string>, dimOthers: boolean): void {
    this.cy.batch(() => {
      for (const key of this.marked) if (!keys.has(key)) this.edges.get(key)?.removeClass("linked");
      for (const key of keys) if (!this.marked.has(key)) this.edges.get(key)?.addClass("linked");
      if (dimOthers !== this.dimmed) {
        if (dimOthers) this.cy.edges().addClass("dim");
        else this.cy.edges().removeClass("dim");
      }
    });
    this.marked = new Set(keys);
    this.dimmed = dimOthers;
  }

  hoverEdge(key: string | null): void {
    this.cy.edges(".hover").removeClass("hover");
    if (key) this.edges.get(key)?.addClass("hover");
  }

  get camera(): Camera {
    const pan = this.cy.pan();
    return { x: pan.x, y: pan.y, zoom: this.cy.zoom() };
  }

  setCamera(camera: Camera): void {
    cancelAnimationFrame(this.moving);
    this.cy.viewport({ zoom: clampZoom(camera.zoom), pan: { x: camera.x, y: camera.y } });
  }

  /** Glides there, unless the reader asked for less motion. */
  moveTo(camera: Camera, ms = 240): void {
    cancelAnimationFrame(this.moving);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || document.hidden) {
      this.setCamera(camera);
      return;
    }
    const from = this.camera;
    this.drift = 0;
    const zoom = clampZoom(camera.zoom);
    const start = performance.now();
    const step = this.scope.guard("camera", () => {
      const t = Math.min(1, (performance.now() - start) / ms);
      const ease = 1 - (1 - t) ** 3;
      const mix = (a: number, b: number): number => a + (b - a) * ease;
      this.cy.viewport({ zoom: mix(from.zoom, zoom), pan: { x: mix(from.x, camera.x) + this.drift, y: mix(from.y, camera.y) } });
      if (t < 1) this.moving = requestAnimationFrame(step);
    });
    step();
  }

  /** The camera that shows a box whole, never enlarged. */
  cameraFor(box: Box, margin = 28, largest = 1): Camera {
    const w = this.cy.width();
    const h = this.cy.height();
    const zoom = clampZoom(Math.min(largest, (w - 2 * margin) / Math.max(1, box.w), (h - 2 * margin) / Math.max(1, box.h)));
    return { zoom, x: w / 2 - (box.x + box.w / 2) * zoom, y: h / 2 - (box.y + box.h / 2) * zoom };
  }

  zoomBy(factor: number, about?: { x: number; y: number }): void {
    const now = this.camera;
    const zoom = clampZoom(now.zoom * factor);
    const at = about ?? { x: this.cy.width() / 2, y: this.cy.height() / 2 };
    const target = { zoom, x: at.x - ((at.x - now.x) * zoom) / now.zoom, y: at.y - ((at.y - now.y) * zoom) / now.zoom };
    if (about) this.setCamera(target);
    else this.moveTo(target, 140);
  }

  /** The host has a new size: what was in the middle stays in the middle. */
  resize(): void {
    const before = this.cy.width();
    this.cy.resize();
    const by = (this.cy.width() - before) / 2;
    if (by === 0 || before === 0) return;
    this.drift += by;
    this.cy.panBy({ x: by, y: 0 });
  }

  get size(): { w: number; h: number } {
    return { w: this.cy.width(), h: this.cy.height() };
  }
}

function clampZoom(zoom: number): number {
  return Math.min(MAX_ZOOM, Math.max(MIN_ZOOM, zoom));
}

/** cytoscape wants bends as distances from the straight line between the two ends. */
function edgeElement(edge: SceneEdge, scene: Scene): cytoscape.ElementDefinition {
  const p = edge.points;
  const s = scene.byItem.get(edge.source)!;
  const t = scene.byItem.get(edge.target)!;
  const [sx, sy] = [p[0]!, p[1]!];
  const [tx, ty] = [p[p.length - 2]!, p[p.length - 1]!];
  const dx = tx - sx;
  const dy = ty - sy;
  const square = dx * dx + dy * dy || 1;
  const length = Math.sqrt(square);
  const weights: number[] = [];
  const distances: number[] = [];
  for (let k = 2; k + 2 < p.length; k += 2) {
    const ox = p[k]! - sx;
    const oy = p[k + 1]! - sy;
    weights.push((ox * dx + oy * dy) / square);
    distances.push((oy * dx - ox * dy) / length);
  }
  const data: Record<string, unknown> = {
    id: `e${edge.key}`, key: edge.key, source: `i${edge.source}`, target: `i${edge.target}`,
    se: `${sx - s.x - s.w / 2}px ${sy - s.y - s.h / 2}px`,
    te: `${tx - t.x - t.w / 2}px ${ty - t.y - t.h / 2}px`,
    width: Math.min(3.5, 1.25 + Math.log2(edge.edges.length) * 0.4),
  };
  if (weights.length > 0) {
    data["sw"] = weights.join(" ");
    data["sd"] = distances.join(" ");
  }
  if (edge.conversion) data["conversion"] = edge.conversion & 3;
  return { group: "edges", data };
}

function sheet(palette: Palette): cytoscape.StylesheetJson {
  // Selectors that ask for the field: a mapping on an element without it logs a warning each.
  return [
    { selector: "core", style: { "active-bg-opacity": 0, "selection-box-opacity": 0 } as never },
    { selector: "node", style: { "background-opacity": 0, "border-width": 0, shape: "rectangle", events: "yes", "overlay-opacity": 0, "z-index-compare": "manual" } as never },
    { selector: "node[w]", style: { width: "data(w)", height: "data(h)", "z-index": "data(z)" } as never },
    {
      selector: "edge[se]",
      style: {
        width: "data(width)", "line-color": palette.edge, "target-arrow-color": palette.edge, "target-arrow-shape": "triangle", "arrow-scale": 0.85,
        "curve-style": "straight", "source-endpoint": "data(se)", "target-endpoint": "data(te)", "overlay-opacity": 0, "z-index-compare": "manual", "z-index": 100,
      } as never,
    },
    { selector: "edge[sw]", style: { "curve-style": "round-segments", "segment-weights": "data(sw)", "segment-distances": "data(sd)", "segment-radii": 14, "edge-distances": "endpoints" } as never },
    { selector: "edge[conversion]", style: { "line-color": palette.amber, "target-arrow-color": palette.amber, "line-style": "dashed", "line-dash-pattern": [6, 4], width: 2 } as never },
    { selector: "edge[conversion = 2]", style: { "line-dash-pattern": [2, 3] } as never },
    { selector: "edge[conversion = 3]", style: { "line-dash-pattern": [9, 3, 2, 3] } as never },
    { selector: "edge.dim", style: { opacity: 0.35 } as never },
    { selector: "edge.hover", style: { "line-color": palette.edgeStrong, "target-arrow-color": palette.edgeStrong, opacity: 1, width: 2.5 } as never },
    { selector: "edge.linked", style: { "line-color": palette.accent, "target-arrow-color": palette.accent, opacity: 1, width: 2.25 } as never },
    { selector: "edge.linked[conversion]", style: { "line-color": palette.amber, "target-arrow-color": palette.amber, width: 3 } as never },
  ];
}
