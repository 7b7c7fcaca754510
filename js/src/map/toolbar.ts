/** The bar above the map. It only calls back; the map does the work. */
import { button, h, icon, type IconName, type Scope } from "../dom";
import type { Direction } from "./layout";
import { ZOOM_STEP } from "./stage";

export interface ToolbarParams {
  label: string;
  heading: string;
  direction: Direction;
  overlay: HTMLSelectElement;
  grouping: HTMLSelectElement;
  search: HTMLElement;
  outline(): void;
  openLevel(): void;
  openAll(): void;
  closeAll(): void;
  zoom(factor: number): void;
  fit(): void;
  turn(direction: Direction): void;
  /** `at` is the button, which gets the focus back. */
  save(at: HTMLElement): void;
}

/** Fills a menu and chooses `wanted`, or `fallback` where that is not in it. Returns what is chosen. */
export function choose(select: HTMLSelectElement, options: readonly { name: string; label: string }[], wanted: string, fallback: string): string {
  for (const { name, label } of options) select.append(h("option", { value: name }, label));
  select.value = wanted;
  if (select.selectedIndex < 0) select.value = fallback;
  return select.value;
}

export function toolbar(scope: Scope, params: ToolbarParams): { element: HTMLElement; outline: HTMLButtonElement } {
  const act = (name: IconName, text: string, fn: () => void): HTMLButtonElement => {
    const b = button(name, text);
    scope.listen(b, "click", fn);
    return b;
  };
  const zoom = (name: IconName, text: string, factor: number): HTMLButtonElement => {
    const b = act(name, text, () => params.zoom(factor));
    b.classList.add("wb-zoom");
    return b;
  };
  let direction = params.direction;
  const look = (): IconName => (direction === "TB" ? "vertical" : "horizontal");
  const turn = act(look(), "Turn: top to bottom or left to right", () => {
    direction = direction === "TB" ? "LR" : "TB";
    turn.replaceChildren(icon(look()));
    params.turn(direction);
  });
  const outline = act("outline", "Show or hide the outline", () => params.outline());
  const save = act("save", "Save as PNG or SVG", () => params.save(save));
  const element = h("div", { class: "wb-bar wb-tools", role: "toolbar", "aria-label": `Tools of ${params.label}` },
    outline,
    h("div", { class: "wb-title", title: params.label }, params.heading),
    h("label", { class: "wb-field" }, h("span", {}, "Color"), params.overlay),
    h("label", { class: "wb-field" }, h("span", {}, "Group"), params.grouping),
    params.search,
    h("div", { class: "wb-grow" }),
    h("div", { class: "wb-break" }),
    h("div", { class: "wb-group" },
      act("level", "Open one level", () => params.openLevel()),
      act("all", "Open everything", () => params.openAll()),
      act("collapse", "Close all groups", () => params.closeAll()),
    ),
    h("div", { class: "wb-rule" }),
    h("div", { class: "wb-group" },
      zoom("minus", "Zoom out (−)", 1 / ZOOM_STEP),
      zoom("plus", "Zoom in (+)", ZOOM_STEP),
      act("fit", "Show everything (f)", () => params.fit()),
      turn, save,
    ),
  );
  return { element, outline };
}
