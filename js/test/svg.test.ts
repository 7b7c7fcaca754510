import { describe, expect, it } from "vitest";
import { hostile, resnetPlan } from "../demo/data";
import { FLAGS } from "../src/map/fusion_model";
import { layout } from "../src/map/layout";
import { fit, fitMiddle, measure, TITLE_FONT } from "../src/measure";
import { paintOverlay } from "../src/map/overlay";
import { buildScene, layoutRequest } from "../src/map/scene";
import { findItems } from "../src/map/search";
import { escapeXml, writeSvg } from "../src/map/svg";
import { PALETTES } from "../src/theme";
import type { GraphData } from "../src/types";
import { allGroups, buildTree, groupingOf, visibleGraph } from "../src/map/visible";

function svgOf(data: GraphData, overlay: string): string {
  const tree = buildTree(data, groupingOf(data, ""));
  const visible = visibleGraph(data, tree, allGroups(tree));
  const scene = buildScene(data, tree, visible, layout(layoutRequest(data, tree, visible, "TB")), "TB");
  const painted = paintOverlay(data, overlay, tree, visible, PALETTES.light);
  return writeSvg({ scene, marks: painted.marks, flags: new Map([[scene.cards[0]!.item, FLAGS.merged]]), selected: new Set(), palette: PALETTES.light, title: data.title ?? "", legend: painted.legend }).svg;
}

describe("SVG", () => {
  it("holds every card and edge, and its legend", () => {
    const svg = svgOf(resnetPlan(), "kind");
    expect(svg.match(/<g><title>/g)).toHaveLength(58);
    expect(svg.match(/<polyline/g)!.length).toBeGreaterThan(57);
    expect(svg).toContain("Cv conv");
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  });
  it("hatches estimates", () => {
    expect(svgOf(resnetPlan(), "bytes")).toContain("url(#hatch)");
    expect(svgOf(resnetPlan(), "time")).not.toContain("url(#hatch)");
  });
  it("lets no markup in", () => {
    const svg = svgOf(hostile(), "kind");
    expect(svg).not.toContain("<script");
    expect(svg).not.toContain("<img");
    expect(escapeXml("a\u0000<&\"'>")).toBe("a&#60;&#38;&#34;&#39;&#62;");
  });
});

describe("cutting text", () => {
  it("keeps within the space", () => {
    const long = "encoder.layer.11.attention.self.query.MatMul";
    for (const space of [20, 60, 120, 400]) {
      expect(measure(fit(long, TITLE_FONT, space), TITLE_FONT)).toBeLessThanOrEqual(space);
      expect(measure(fitMiddle(long, TITLE_FONT, space), TITLE_FONT)).toBeLessThanOrEqual(space);
    }
  });
  it("keeps both ends of a name", () => expect(fitMiddle("encoder.layer.11.MatMul", TITLE_FONT, 100)).toMatch(/^enc.*….*Mul$/));
});

describe("search", () => {
  const data = resnetPlan();
  const tree = buildTree(data, groupingOf(data, ""));
  const labels = (query: string): string[] => findItems(tree, () => "", query).map((i) => tree.items[i]!.label);
  it("puts the exact label first", () => expect(labels("layer1")[0]).toBe("layer1"));
  it("needs every word", () => expect(labels("layer2.1 conv3")).toEqual(["conv3 1x1 + Add + ReLU"]));
  it("finds nothing for nothing", () => expect(labels("  ")).toEqual([]));
});
