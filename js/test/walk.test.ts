import { describe, expect, it } from "vitest";
import { EdgeIndex } from "../src/map/edges";
import { highlight } from "../src/map/highlight";
import type { Card, Scene, SceneEdge } from "../src/map/scene";
import { buildTree, groupingOf, visibleGraph } from "../src/map/visible";
import { neighborOf, wayOf } from "../src/map/walk";
import type { GraphData } from "../src/types";

/** Three nodes in a row, and one beside the second: a -> b -> c, and a -> d. */
const data: GraphData = {
  version: 1, of: "layer", kinds: ["conv"], nodes: { id: ["a", "b", "c", "d"], kind: [0, 0, 0, 0] },
  groupings: [], edges: { source: [0, 1, 0], target: [1, 2, 3] }, overlays: [],
};
const edge = (source: number, target: number): SceneEdge => ({ key: `${source}-${target}`, source, target, edges: [0], points: [], conversion: 0 }) as unknown as SceneEdge;
const card = (item: number, x: number, y: number): Card => ({ item, x, y, w: 80, h: 40 }) as unknown as Card;

describe("walking over the map", () => {
  const tree = buildTree(data, groupingOf(data, "none"));
  const at = (id: string): number => tree.ofId.get(id)!;
  const cards = [card(at("a"), 100, 0), card(at("b"), 100, 100), card(at("c"), 100, 200), card(at("d"), 300, 100)];
  const edges = new EdgeIndex([edge(at("a"), at("b")), edge(at("b"), at("c")), edge(at("a"), at("d"))]);
  const scene = { cards, byItem: new Map(cards.map((c) => [c.item, c])) } as unknown as Scene;
  const from = (id: string): Card => scene.byItem.get(at(id))! as Card;

  it("follows edges along the flow and looks beside across it", () => {
    expect(neighborOf(scene, edges, from("a"), "out", "TB")).toBe(at("b"));
    expect(neighborOf(scene, edges, from("b"), "in", "TB")).toBe(at("a"));
    expect(neighborOf(scene, edges, from("b"), "after", "TB")).toBe(at("d"));
    expect(neighborOf(scene, edges, from("c"), "out", "TB")).toBeUndefined();
  });
  it("begins at the first card", () => {
    expect(neighborOf(scene, edges, undefined, "out", "TB")).toBe(at("a"));
  });
  it("turns the arrow keys with the map", () => {
    expect(wayOf("ArrowDown", "TB")).toBe("out");
    expect(wayOf("ArrowDown", "LR")).toBe("after");
    expect(wayOf("x", "TB")).toBeUndefined();
  });
  it("lights what is selected, its neighbors and the edges between them", () => {
    const visible = visibleGraph(data, tree, new Set());
    const found = highlight(tree, visible, edges, ["a"]);
    expect([...found.selected]).toEqual([at("a")]);
    expect(found.related).toEqual(new Set([at("a"), at("b"), at("d")]));
    expect(found.edges.size).toBe(2);
    expect(highlight(tree, visible, edges, []).related).toBeNull();
  });
});
