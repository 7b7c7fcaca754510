/** The legend under a map, in HTML: what each color, letter and line means. */
import { h } from "../dom";
import { FLAGS } from "./fusion_model";
import type { Legend } from "./overlay";
import { tile, type Palette } from "../theme";
import type { LayerFlag, NodeFlag } from "../types";
import { figures } from "../units";

const SOURCE_WORDS = { measured: "measured", computed: "computed", estimated: "≈ estimated", reported: "reported by the compiler" } as const;

export function legendElement(legend: Legend, palette: Palette, conversions: boolean): HTMLElement {
  const out: (Node | string)[] = [h("b", {}, legend.label)];
  if (legend.type === "categorical") {
    for (const entry of legend.entries) {
      const chip = h("span", { class: "wb-chip" }, entry.code);
      const { ground, ink } = tile(palette, entry.color);
      chip.style.background = ground;
      chip.style.color = ink;
      chip.style.boxShadow = `inset 3px 0 ${entry.color}`;
      chip.style.paddingLeft = "6px";
      out.push(h("span", { class: "wb-entry" }, chip, entry.label, h("small", {}, figures(entry.count))));
    }
  } else {
    const ramp = h("span", { class: `wb-ramp${legend.source === "estimated" ? " wb-hatched" : ""}`, role: "img", "aria-label": `from ${legend.low} to ${legend.high}` });
    ramp.style.background = `linear-gradient(90deg, ${legend.colors.join(", ")})`;
    const middle = h("small", { class: "wb-middle" }, legend.middle);
    out.push(h("span", { class: "wb-entry" }, legend.low, h("span", { class: "wb-ramp-box" }, ramp, middle), legend.high));
    if (legend.unknown > 0) out.push(h("span", { class: "wb-entry" }, h("small", {}, `${figures(legend.unknown)} not known`)));
  }
  if (legend.source) out.push(h("span", { class: "wb-source", "data-source": legend.source }, SOURCE_WORDS[legend.source]));
  if (conversions) out.push(h("span", { class: "wb-entry" }, h("span", { class: "wb-dash", "aria-hidden": "true" }), "conversion"));
  return h("div", { class: "wb-legend" }, ...out);
}

export function flagLegend(flags: Iterable<LayerFlag | NodeFlag>): HTMLElement | null {
  const counts = new Map<Exclude<LayerFlag | NodeFlag, "">, number>();
  for (const flag of flags) if (flag) counts.set(flag, (counts.get(flag) ?? 0) + 1);
  if (counts.size === 0) return null;
  const entries = [...counts].map(([flag, count]) => {
    const style = FLAGS[flag];
    return h("span", { class: "wb-entry" }, h("span", { class: "wb-flag", "aria-hidden": "true" }, style.letter), h("span", { class: "wb-swatch", "data-border": style.border, "aria-hidden": "true" }), style.label, h("small", {}, figures(count)));
  });
  return h("div", { class: "wb-legend" }, ...entries);
}
