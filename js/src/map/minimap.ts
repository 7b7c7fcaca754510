/** The whole drawing, small, with the part on screen framed. Drag to move there. */
import { h, type Scope } from "../dom";
import type { Camera } from "./paint";
import type { Mark } from "./overlay";
import type { Scene } from "./scene";
import type { Palette } from "../theme";

const LARGEST = { w: 168, h: 124 };
const PAD = 5;
/** Width of a map in which the minimap has its full size. */
const ROOMY = 640;

export class Minimap {
  readonly element: HTMLCanvasElement;
  private readonly picture: HTMLCanvasElement;
  private scene: Scene | null = null;
  private scale = 1;
  private room = 0;
  private w = 0;
  private h = 0;
  private palette: Palette | null = null;

  constructor(scope: Scope, private readonly goTo: (x: number, y: number) => void) {
    this.element = h("canvas", { class: "wb-mini", "aria-hidden": "true" });
    this.picture = h("canvas");
    const move = (event: PointerEvent): void => {
      const box = this.element.getBoundingClientRect();
      this.goTo((event.clientX - box.left - PAD) / this.scale, (event.clientY - box.top - PAD) / this.scale);
    };
    scope.listen(this.element, "pointerdown", (event) => {
      event.stopPropagation();
      this.element.setPointerCapture(event.pointerId);
      move(event);
    });
    scope.listen(this.element, "pointermove", (event) => {
      if (event.buttons & 1) move(event);
    });
    // cytoscape listens to these on the stage; a drag here is not a drag there.
    scope.listen(this.element, "mousedown", (event) => event.stopPropagation());
    scope.listen(this.element, "wheel", (event) => event.stopPropagation(), { passive: true });
  }

  /** Redraws the picture; cheap moves of the frame are `frame`. */
  draw(scene: Scene, marks: Map<number, Mark>, palette: Palette, room: number): void {
    this.scene = scene;
    this.palette = palette;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    // In a narrow map it must leave room for the map.
    if (room > 0) this.room = room; // a map that is out of sight has none
    const share = Math.min(1, Math.max(0.6, this.room / ROOMY));
    const w = LARGEST.w * share - 2 * PAD;
    const h = LARGEST.h * share - 2 * PAD;
    this.scale = Math.min(w / Math.max(1, scene.width), h / Math.max(1, scene.height));
    // A tall strip would be a hairline: it may be stretched to a width that can be grabbed.
    this.w = Math.max(44, Math.round(scene.width * this.scale) + 2 * PAD);
    this.h = Math.max(34, Math.round(scene.height * this.scale) + 2 * PAD);
    for (const canvas of [this.element, this.picture]) {
      canvas.width = this.w * ratio;
      canvas.height = this.h * ratio;
    }
    this.element.style.cssText = `width:${this.w}px;height:${this.h}px;inset:auto 10px 10px auto;pointer-events:auto`;
    const ctx = this.picture.getContext("2d")!;
    ctx.setTransform(ratio, 0, 0, ratio, PAD * ratio, PAD * ratio);
    for (const f of scene.frames) {
      ctx.fillStyle = palette.frames[f.depth % palette.frames.length]!;
      ctx.strokeStyle = palette.frameLine;
      ctx.lineWidth = 0.5;
      ctx.fillRect(f.x * this.scale, f.y * this.scale, f.w * this.scale, f.h * this.scale);
      ctx.strokeRect(f.x * this.scale, f.y * this.scale, f.w * this.scale, f.h * this.scale);
    }
    for (const c of scene.cards) {
      ctx.fillStyle = marks.get(c.item)?.color ?? palette.unknown;
      ctx.fillRect(c.x * this.scale, c.y * this.scale, Math.max(2, c.w * this.scale), Math.max(1, c.h * this.scale - 0.5));
    }
  }

  frame(camera: Camera, width: number, height: number): void {
    if (!this.scene || !this.palette) return;
    const x = -camera.x / camera.zoom, y = -camera.y / camera.zoom;
    const w = width / camera.zoom, hh = height / camera.zoom;
    const whole = x <= 1 && y <= 1 && x + w >= this.scene.width - 1 && y + hh >= this.scene.height - 1;
    this.element.hidden = whole;
    if (whole) return;
    const ctx = this.element.getContext("2d")!;
    const ratio = this.element.width / this.w;
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, this.element.width, this.element.height);
    ctx.drawImage(this.picture, 0, 0);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    const x0 = Math.max(1, x * this.scale + PAD), y0 = Math.max(1, y * this.scale + PAD);
    const x1 = Math.min(this.w - 1, (x + w) * this.scale + PAD), y1 = Math.min(this.h - 1, (y + hh) * this.scale + PAD);
    ctx.globalAlpha = 0.14;
    ctx.fillStyle = this.palette.accent;
    ctx.fillRect(x0, y0, x1 - x0, y1 - y0);
    ctx.globalAlpha = 1;
    ctx.strokeStyle = this.palette.accent;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(x0, y0, Math.max(3, x1 - x0), Math.max(3, y1 - y0));
  }
}
