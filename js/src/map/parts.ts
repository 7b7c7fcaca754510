/** The small parts around a map: status line, legend, errors, tooltip, menus, and the panel that lies over it. */
import { button, h } from "../dom";

export class Parts {
  readonly status = h("div", { class: "wb-status", role: "status", "aria-live": "polite" });
  readonly legend = h("div", { class: "wb-legend" });
  readonly errors = h("div", { role: "alert" });
  readonly tip = h("div", { class: "wb-tip", role: "tooltip", hidden: true });
  readonly overlay = h("select", { "aria-label": "Color by" });
  readonly grouping = h("select", { "aria-label": "Group by" });
  private panel: HTMLElement | null = null;

  /** The whole view: the toolbar, errors, what stands in the middle, and the foot. */
  frame(label: string, theme: string, bar: HTMLElement, body: (HTMLElement | null)[], legend: HTMLElement | null): HTMLElement {
    return h("div", { class: "wb-root wb-graph", role: "region", "aria-label": label, "data-lm-suppress-shortcuts": "true", "data-theme": theme },
      bar,
      this.errors,
      h("div", { class: "wb-body" }, ...body),
      h("div", { class: "wb-foot" }, this.legend, legend, this.status),
    );
  }

  /** Shows a panel over the map in place of the last one; null shows none. */
  showPanel(panel: HTMLElement | null, over: HTMLElement): void {
    this.panel?.remove();
    this.panel = panel;
    if (panel) over.parentElement?.append(panel);
  }

  showError(where: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    const close = button("close", "Dismiss");
    close.addEventListener("click", () => this.errors.replaceChildren());
    this.errors.replaceChildren(h("div", { class: "wb-error" }, h("span", {}, `The map could not finish "${where}": ${message}`), close));
  }
}
