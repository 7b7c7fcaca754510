import { describe, expect, it } from "vitest";
import { bigPlan, resnetPlan, transformerOriginal } from "../demo/data";
import { faultOfGraph, faultOfTable } from "../src/decode";
import type { GraphData } from "../src/types";
import { allGroups, ancestors, buildTree, countCards, groupingOf, initialExpanded, leavesOf, openLevel, visibleGraph } from "../src/map/visible";

function tiny(parent: number[], of: number[]): GraphData {
  return {
    version: 1, of: "layer", kinds: ["conv"],
    nodes: { id: of.map((_, i) => `n${i}`), kind: of.map(() => 0) },
    groupings: [{ name: "g", label: "G", group: { id: parent.map((_, i) => `g${i}`), label: parent.map((_, i) => `G${i}`), parent }, of }],
    edges: { source: [0, 1, 2, 0], target: [1, 2, 3, 3], conversion: [0, 1, 2, 0] },
    overlays: [],
  };
}

describe("visible graph", () => {
  // g0 holds n0 and the box g1, which holds n1 and n2; n3 is outside.
  const data = tiny([-1, 0], [0, 1, 1, -1]);
  const tree = buildTree(data, groupingOf(data, ""));
  const labels = (items: number[]): string[] => items.map((i) => tree.items[i]!.label);

  it("shows closed groups only, with edges lifted, counted once and their conversions joined", () => {
    const v = visibleGraph(data, tree, []);
    expect(labels(v.items)).toEqual(["G0", "n3"]);
    expect(v.edges).toHaveLength(1);
    expect(v.edges[0]!.edges).toEqual([2, 3]);
    expect(v.edges[0]!.conversion).toBe(2);
  });

  it("opens one group and keeps the one inside closed", () => {
    const v = visibleGraph(data, tree, ["g0"]);
    expect(labels(v.items)).toEqual(["G0", "n0", "G1", "n3"]);
    expect(v.cards).toBe(3);
    expect(v.edges.map((e) => labels([e.source, e.target]).join(">"))).toEqual(["n0>G1", "G1>n3", "n0>n3"]);
  });

  it("ignores a group that is open inside a closed one, and ids that do not exist", () => {
    expect(visibleGraph(data, tree, ["g1", "nonsense"]).cards).toBe(2);
  });

  it("counts cards without building the graph", () => {
    for (const open of [[], ["g0"], ["g0", "g1"]]) expect(countCards(tree, open)).toBe(visibleGraph(data, tree, open).cards);
  });

  it("opens level by level", () => {
    const one = openLevel(tree, visibleGraph(data, tree, []));
    expect(one).toEqual(["g0"]);
    expect(openLevel(tree, visibleGraph(data, tree, one))).toEqual(["g0", "g1"]);
  });

  it("knows ancestors and leaves", () => {
    expect(labels(ancestors(tree, tree.ofId.get("n1")!))).toEqual(["G0", "G1"]);
    expect(leavesOf(tree, tree.ofGroup.get("g0")!)).toEqual([0, 1, 2]);
  });

  it("survives a parent chain that bites its own tail", () => {
    const round = tiny([1, 0], [0, 1, 1, -1]);
    const t = buildTree(round, groupingOf(round, ""));
    expect(visibleGraph(round, t, allGroups(t)).cards).toBe(4);
  });
});

describe("blocks", () => {
  it("cuts a giant flat level into blocks that hold every node once, in order", () => {
    const data = bigPlan(2016, true);
    const tree = buildTree(data, groupingOf(data, "none"));
    expect(tree.roots.length).toBeLessThan(60);
    expect(tree.roots.flatMap((r) => leavesOf(tree, r))).toEqual(data.nodes.id.map((_, i) => i));
  });

  it("leaves small levels alone", () => {
    const data = resnetPlan();
    expect(buildTree(data, null).roots).toHaveLength(data.nodes.id.length);
  });

  it("opens boxes that stand alone", () => {
    const data = tiny([-1, 0], [0, 1, 1, 0]);
    const tree = buildTree(data, groupingOf(data, ""));
    expect(initialExpanded(tree)).toEqual(["g0"]);
  });
});

describe("faults", () => {
  it("accepts what the generators make", () => {
    const b = transformerOriginal(2);
    expect(faultOfGraph(b.data("node", "t", [b.grouping("m", "M")]))).toBeNull();
  });
  it("names the broken place", () => {
    const data = resnetPlan();
    expect(faultOfGraph({ ...data, edges: { source: [999], target: [0] } })).toMatch(/Edge 0/);
    expect(faultOfGraph({ ...data, overlays: [{ ...data.overlays[0]!, values: [1] }] })).toMatch(/"time"/);
    expect(faultOfGraph({})).toMatch(/nodes.id/);
    expect(faultOfGraph(null)).toMatch(/not an object/);
    expect(faultOfTable({ id: ["a"], columns: [{ name: "x", label: "X", type: "text" }], rows: [[]] })).toMatch(/"x"/);
  });
});
