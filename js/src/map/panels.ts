/** The panels that lie over the map: a question before very many cards are drawn, and the progress of a layout. */
import { h, type Scope } from "../dom";
import { figures, plural } from "../units";

/** Asks whether `count` cards are to be drawn. `yes` is the button that gets the focus. */
export function askForMany(count: number, scope: Scope, draw: () => void, close: () => void): { panel: HTMLElement; yes: HTMLElement } {
  const yes = h("button", { type: "button", class: "wb-button wb-solid" }, "Show them");
  const no = h("button", { type: "button", class: "wb-button wb-line" }, "Cancel");
  yes.addEventListener("click", scope.guard("open", () => { close(); draw(); }));
  no.addEventListener("click", scope.guard("open", close));
  const panel = h("div", { class: "wb-panel", role: "alertdialog", "aria-label": "Show very many cards?" }, h("span", {}, `This draws ${figures(count)} cards, which may take a while.`), yes, no);
  return { panel, yes };
}

/** Says that cards are being laid out, and offers to cancel. */
export function progressPanel(cards: number, scope: Scope, cancel: () => void): HTMLElement {
  const stop = h("button", { type: "button", class: "wb-button wb-line" }, "Cancel");
  stop.addEventListener("click", scope.guard("cancel", cancel));
  return h("div", { class: "wb-panel", role: "status" }, h("span", { class: "wb-spin", "aria-hidden": "true" }), h("span", {}, `Laying out ${plural(cards, "card")}…`), stop);
}
