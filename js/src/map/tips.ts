/** Tooltips of cards and edges: what they say, and where they stand. */
import { textAt } from "../columns";
import { h } from "../dom";
import type { GraphData } from "../types";
import { formatValue } from "../units";
import type { FlagStyle } from "./fusion_model";
import { CONVERSIONS, subOf, type Box, type SceneEdge } from "./scene";
import type { Tree } from "./visible";

/** Tensors of an edge that are listed; the others are counted. */
const MOST_TENSORS = 5;

/** What is said about a card or a closed box. `mark` is the text of its color in the overlay. */
export function itemTip(data: GraphData, tree: Tree, item: number, overlayName: string, mark: string | undefined, flag: FlagStyle | undefined): Node[] {
  const it = tree.items[item]!;
  const out: Node[] = [h("b", {}, it.label)];
  if (it.label !== it.id && it.node >= 0) out.push(h("span", {}, it.id));
  const sub = subOf(data, tree, item);
  if (sub) out.push(h("span", {}, sub));
  if (it.node >= 0) out.push(h("span", {}, data.kinds[data.nodes.kind[it.node]!] ?? ""));
  const overlay = data.overlays.find((o) => o.name === overlayName);
  if (overlay && overlay.type === "categorical" && it.node >= 0) {
    const value = overlay.values[it.node];
    out.push(h("span", {}, `${overlay.label}: ${value === null || value === undefined ? "not known" : (overlay.categories?.[value] ?? "")}`));
  } else if (overlay && overlay.type !== "categorical") {
    out.push(h("span", {}, `${overlay.label}: ${mark ?? formatValue(null)} (${overlay.source})`));
  }
  if (flag) out.push(h("span", {}, `${flag.letter}  ${flag.label}`));
  return out;
}

/** The tensors that an edge stands for. */
export function edgeTip(data: GraphData, edge: SceneEdge): Node[] {
  const out: Node[] = [];
  const seen = new Set<string>();
  for (const e of edge.edges) {
    const tensor = textAt(data.edges.tensor, e) || "tensor";
    if (seen.has(tensor)) continue;
    seen.add(tensor);
    if (seen.size > MOST_TENSORS) continue;
    const about = [textAt(data.edges.shape, e), textAt(data.edges.dtype, e), textAt(data.edges.format, e)].filter(Boolean).join(" · ");
    out.push(h("b", {}, tensor), h("span", {}, about));
  }
  if (seen.size > MOST_TENSORS) out.push(h("span", {}, `and ${seen.size - MOST_TENSORS} more`));
  const name = CONVERSIONS[edge.conversion & 3];
  if (name) out.push(h("span", { class: "wb-warm" }, `converts ${name.replace(" + ", " and ")}`));
  return out;
}

/** Shows a tooltip with `text` beside its card, not over it: the card's neighbors along the flow stay readable. */
export function placeTip(tip: HTMLElement, text: Node[], stage: { width: number; height: number }, card: Box | null, at: { x: number; y: number }): void {
  tip.replaceChildren(...text);
  tip.hidden = false;
  const w = tip.offsetWidth;
  const height = tip.offsetHeight;
  let x = card ? card.x + card.w + 10 : at.x + 14;
  let y = card ? card.y : at.y + 14;
  if (x + w > stage.width - 6) x = card ? card.x - w - 10 : at.x - w - 14;
  if (x < 6) {
    x = Math.max(6, Math.min(stage.width - w - 6, at.x - w / 2));
    y = card ? card.y + card.h + 10 : at.y + 18;
  }
  if (y + height > stage.height - 6) y = Math.max(6, stage.height - height - 6);
  tip.style.left = `${x}px`;
  tip.style.top = `${Math.max(6, y)}px`;
}
