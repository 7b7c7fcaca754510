import palette from "../../workbench/charts/palette.json";
import { describe, expect, it } from "vitest";
import { resnetPlan, tableOf } from "../demo/data";
import { reviveGraph, reviveTable } from "../src/decode";
import { aggregate, aggregateText, domain, paintOverlay, position, ramp, spread } from "../src/map/overlay";
import { categoryColors, kindColors, letterCodes, luminance, PALETTES, tile } from "../src/theme";
import { arrange, cellText, largest } from "../src/table/table_model";
import { figures, formatValue } from "../src/units";
import { buildTree, groupingOf, visibleGraph } from "../src/map/visible";

const data = resnetPlan();
const tree = buildTree(data, groupingOf(data, ""));
const visible = visibleGraph(data, tree, ["layer1"]);

describe("scales", () => {
  it("start at zero for amounts and are symmetric for differences", () => {
    expect(domain([3, 9], false)).toEqual([0, 9]);
    expect(domain([-1, 4], true)).toEqual([-4, 4]);
    expect(domain([], false)).toEqual([0, 1]);
    expect(domain([0, 0], false)).toEqual([0, 1]);
  });
  it("run through the colors from end to end", () => {
    const { sequential } = PALETTES.light;
    expect(ramp(sequential, 0)).toBe(sequential[0]);
    expect(ramp(sequential, 1)).toBe(sequential.at(-1));
    expect(position(5, 0, 10)).toBe(0.5);
    expect(spread(0.25)).toBe(0.5);
  });
  it("add up, average or take the largest, and say when nothing is known", () => {
    const overlay = { name: "t", label: "T", unit: "us", type: "sequential" as const, values: [1, 3, null], source: "measured" as const };
    expect(aggregate(overlay, [0, 1, 2])).toBe(4);
    expect(aggregate({ ...overlay, aggregate: "mean" }, [0, 1, 2])).toBe(2);
    expect(aggregate({ ...overlay, aggregate: "max" }, [0, 1, 2])).toBe(3);
    expect(aggregate(overlay, [2])).toBeNull();
  });
  it("say that a sum without some of its parts is at least that much", () => {
    const overlay = { name: "b", label: "B", unit: "B", type: "sequential" as const, values: [1000, 3000, null, 0], source: "computed" as const };
    expect(aggregateText(overlay, [0, 1])).toBe("4 kB");
    expect(aggregateText(overlay, [0, 1, 2])).toBe("≥ 4 kB");
    expect(aggregateText(overlay, [2])).toBe("–");
    expect(aggregateText(overlay, [2, 3])).toBe("–");
    expect(aggregateText({ ...overlay, aggregate: "max" }, [0, 1, 2])).toBe("3 kB");
  });
});

describe("marks", () => {
  it("never rely on color alone", () => {
    for (const name of ["kind", "time", "bytes", "precision", "error"]) {
      for (const mark of paintOverlay(data, name, tree, visible, PALETTES.light).marks.values()) {
        expect(mark.code.length, name).toBeGreaterThan(0);
        if (["time", "bytes", "error"].includes(name)) expect(mark.text).not.toBe("");
      }
    }
  });
  it("hatch estimates, and only estimates", () => {
    expect([...paintOverlay(data, "bytes", tree, visible, PALETTES.light).marks.values()].every((m) => m.hatched && m.text.startsWith("≈"))).toBe(true);
    expect([...paintOverlay(data, "time", tree, visible, PALETTES.light).marks.values()].some((m) => m.hatched)).toBe(false);
  });
  it("show the make-up of a closed group", () => {
    const mark = paintOverlay(data, "kind", tree, visible, PALETTES.light).marks.get(tree.ofGroup.get("stem")!)!;
    expect(mark.parts.map((p) => p.share)).toEqual([0.5, 0.5]);
  });
  it("fall back to kinds for an overlay that does not exist", () => {
    expect(paintOverlay(data, "nonsense", tree, visible, PALETTES.light).legend.label).toBe("Kind");
  });
});

describe("letters and colors", () => {
  it("give every category its own letters", () => {
    const codes = letterCodes(["conv", "gemm", "concat", "convert", "c", "c", "", "fp16", "fp32"]);
    expect(new Set(codes).size).toBe(codes.length);
  });
  it("give kinds that are not known colors that no known kind has", () => {
    const colors = kindColors(PALETTES.light, ["conv", "gemm", "weird", "odd"]);
    expect(new Set(colors).size).toBe(4);
  });
  it("are the same for a kind in every model, and lighter on a dark page", () => {
    expect(kindColors(PALETTES.light, ["conv"])).toEqual([kindColors(PALETTES.light, ["gemm", "conv"])[1]]);
    expect(luminance(kindColors(PALETTES.dark, ["conv"])[0]!)).toBeGreaterThan(luminance(kindColors(PALETTES.light, ["conv"])[0]!));
    expect(categoryColors(PALETTES.light, "precision", ["fp16"])).not.toEqual(categoryColors(PALETTES.light, "precision", ["fp32"]));
  });
  it("can be read: contrast of text on its ground is at least 4.5", () => {
    for (const p of Object.values(PALETTES)) {
      const pairs: [string, string][] = [[p.text, p.card], [p.muted, p.card], [p.muted, p.canvas], [p.faint, p.card], [p.accent, p.card], [p.amber, p.amberSoft], [p.onAccent, p.accent], [p.danger, p.dangerSoft]];
      const colors = [...kindColors(p, Object.keys(palette.kinds)), ...categoryColors(p, "precision", Object.keys(palette.precisions)), ...p.categories];
      for (const { ink, ground } of colors.map((color) => tile(p, color))) pairs.push([ink, ground]);
      for (const [ink, ground] of pairs) {
        const [a, b] = [luminance(ink), luminance(ground)].sort((x, y) => y - x) as [number, number];
        expect((a + 0.05) / (b + 0.05), `${p.name} ${ink} on ${ground}`).toBeGreaterThanOrEqual(4.5);
      }
    }
  });
});

describe("figures", () => {
  it("are written as people read them", () => {
    expect(formatValue(12.42, "us")).toBe("12.4 µs");
    expect(formatValue(1500, "us")).toBe("1.5 ms");
    expect(formatValue(0.5, "us")).toBe("500 ns");
    expect(formatValue(0, "us")).toBe("0 µs");
    expect(formatValue(3_145_728, "B")).toBe("3.15 MB");
    expect(formatValue(999_600, "B")).toBe("1 MB");
    expect(formatValue(512, "B")).toBe("512 B");
    expect(formatValue(1.21e9, "FLOP")).toBe("1.21 GFLOP");
    expect(formatValue(-2.5, "%")).toBe("−2.5 %");
    expect(formatValue(7, "", "estimated")).toBe("≈ 7");
    expect(formatValue(null, "us")).toBe("–");
    expect(formatValue(Number.NaN)).toBe("–");
    expect(figures(10_000)).toBe("10\u2009000");
  });
});

describe("what is not finite", () => {
  it("is the worst of a map, not the unknown", () => {
    const plan = resnetPlan();
    const rows = plan.nodes.id.length;
    const values = plan.nodes.id.map((_, i): number | null => (i === 0 ? null : i === 1 ? null : i / rows));
    plan.overlays = [{ name: "error", label: "Error", unit: "%", type: "sequential", source: "measured", aggregate: "max", values, infinite: [1] }];
    reviveGraph(plan);
    const open = buildTree(plan, null);
    const { marks, legend } = paintOverlay(plan, "error", open, visibleGraph(plan, open, []), PALETTES.light);
    expect(marks.get(open.ofNode[1]!)).toMatchObject({ text: "not finite", bar: 1, known: true, color: PALETTES.light.sequential.at(-1) });
    expect(marks.get(open.ofNode[0]!)).toMatchObject({ text: "–", known: false });
    expect(legend).toMatchObject({ unknown: 1 });
    expect("high" in legend && legend.high).toMatch(/^0\.9/);
  });
  it("comes first where a table is sorted by the largest", () => {
    const table = reviveTable({ version: 1 as const, of: "layer" as const, id: ["a", "b", "c", "d"], rows: [[2, null, null, 3]],
      columns: [{ name: "error", label: "Error", type: "number" as const, unit: "%", infinite: [2] }] });
    expect(arrange(table, "", { column: 0, descending: true })).toEqual([2, 3, 0, 1]);
    expect(arrange(table, "error>2.5", null)).toEqual([2, 3]);
    expect([0, 1, 2].map((r) => cellText(table, 0, r))).toEqual(["2 %", "–", "not finite"]);
    expect(largest(table.rows[0]!)).toBe(3);
    expect(reviveTable(tableOf(resnetPlan()))).toEqual(tableOf(resnetPlan()));
  });
});
