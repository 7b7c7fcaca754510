import { describe, expect, it } from "vitest";
import { bigPlan, resnetPlan, transformerOriginal } from "../demo/data";
import { layout, type Direction, simplify } from "../src/map/layout";
import { buildScene, halfWay, layoutRequest, type Card, type Scene } from "../src/map/scene";
import type { GraphData } from "../src/types";
import { allGroups, buildTree, groupingOf, visibleGraph } from "../src/map/visible";

function lay(data: GraphData, expanded: "all" | string[], direction: Direction = "TB"): Scene {
  const tree = buildTree(data, groupingOf(data, ""));
  const visible = visibleGraph(data, tree, expanded === "all" ? allGroups(tree) : expanded);
  return buildScene(data, tree, visible, layout(layoutRequest(data, tree, visible, direction)), direction);
}

function bert(): GraphData {
  const b = transformerOriginal(3);
  return b.data("node", "bert", [b.grouping("modules", "Modules")]);
}

function inside(a: Card, b: Card): boolean {
  return a.x >= b.x && a.y >= b.y && a.x + a.w <= b.x + b.w && a.y + a.h <= b.y + b.h;
}

for (const direction of ["TB", "LR"] as const) {
  describe(`layout ${direction}`, () => {
    const data = bert();
    const scene = lay(data, "all", direction);
    const tree = buildTree(data, groupingOf(data, ""));

    it("puts every card inside the frame of its group", () => {
      for (const card of scene.byItem.values()) {
        const parent = tree.items[card.item]!.parent;
        if (parent >= 0) expect(inside(card, scene.byItem.get(parent)!), card.title).toBe(true);
      }
    });

    it("lets no two cards overlap", () => {
      for (let i = 0; i < scene.cards.length; i++) {
        for (let j = i + 1; j < scene.cards.length; j++) {
          const a = scene.cards[i]!, b = scene.cards[j]!;
          expect(a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y, `${a.title} / ${b.title}`).toBe(true);
        }
      }
    });

    it("flows one way and ends edges on the borders of their cards", () => {
      for (const edge of scene.edges) {
        const s = scene.byItem.get(edge.source)!, t = scene.byItem.get(edge.target)!;
        const p = edge.points;
        const end = p.length - 2;
        if (direction === "TB") {
          expect(p[1]).toBeCloseTo(s.y + s.h);
          expect(p[end + 1]).toBeCloseTo(t.y);
          expect(t.y).toBeGreaterThan(s.y);
        } else {
          expect(p[0]).toBeCloseTo(s.x + s.w);
          expect(p[end]).toBeCloseTo(t.x);
          expect(t.x).toBeGreaterThan(s.x);
        }
      }
    });

    it("stays within the size it reports", () => {
      for (const card of scene.byItem.values()) {
        expect(card.x).toBeGreaterThanOrEqual(-0.01);
        expect(card.x + card.w).toBeLessThanOrEqual(scene.width + 0.01);
        expect(card.y + card.h).toBeLessThanOrEqual(scene.height + 0.01);
      }
    });
  });
}

describe("layout of hard graphs", () => {
  it("bundles a producer that feeds everything into one rail", () => {
    const scene = lay(bigPlan(2016, true), []);
    const rails = scene.edges.filter((e) => e.rail);
    expect(rails.length).toBeGreaterThan(10);
    const lanes = new Set(rails.filter((e) => e.source === rails[0]!.source).map((e) => Math.round(e.points[4]!)));
    expect(lanes.size).toBe(1);
  });

  it("lays out 2,016 open layers without trouble", () => {
    const scene = lay(bigPlan(2016, false), "all");
    expect(scene.cards).toHaveLength(2016);
    expect(scene.edges.every((e) => e.points.every(Number.isFinite))).toBe(true);
  }, 20_000);

  it("bears cycles, loose nodes and nothing at all", () => {
    const result = layout({ direction: "TB", width: [100, 100, 100], height: [40, 40, 40], parent: [-1, -1, -1], open: [0, 0, 0], source: [0, 1], target: [1, 0] });
    expect(result.x.every(Number.isFinite)).toBe(true);
    expect(layout({ direction: "LR", width: [], height: [], parent: [], open: [], source: [], target: [] }).totalWidth).toBe(0);
  });

  it("draws blocks that are alike alike, each with its own edges", () => {
    // Two groups of a branch and a join, one after the other; a third is wider.
    const request = { direction: "TB" as const, parent: [] as number[], open: [] as number[], width: [] as number[], height: [] as number[], source: [] as number[], target: [] as number[] };
    for (let g = 0; g < 3; g++) {
      const box = request.parent.push(-1) - 1;
      for (let i = 0; i < 4; i++) request.parent.push(box);
      request.open.push(1, 0, 0, 0, 0);
      request.width.push(100, 140, 140, g === 2 ? 220 : 140, 140);
      request.height.push(48, 48, 48, 48, 48);
      for (const [a, b] of [[1, 2], [1, 3], [2, 4], [3, 4]]) { request.source.push(box + a!); request.target.push(box + b!); }
      if (g > 0) { request.source.push(box - 1); request.target.push(box + 1); }
    }
    const { x, y, width, points } = layout(request);
    for (let i = 1; i < 5; i++) expect([x[5 + i]! - x[5]!, y[5 + i]! - y[5]!]).toEqual([x[i]! - x[0]!, y[i]! - y[0]!]);
    expect(width[10]).toBeGreaterThan(width[0]!);
    points.forEach((way, e) => {
      const s = request.source[e]!, t = request.target[e]!;
      expect(way[1]).toBeCloseTo(y[s]! + 48);
      expect(way[way.length - 1]).toBeCloseTo(y[t]!);
    });
  });

  it("is the same every time", () => {
    expect(lay(resnetPlan(), "all").cards).toEqual(lay(resnetPlan(), "all").cards);
  });
});

describe("polylines", () => {
  it("drops points on a straight line", () => expect(simplify([0, 0, 5, 0, 10, 0, 10, 8])).toEqual([0, 0, 10, 0, 10, 8]));
  it("finds the middle by length", () => expect(halfWay([0, 0, 10, 0, 10, 30])).toEqual({ x: 10, y: 10 }));
});
