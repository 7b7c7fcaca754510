import { describe, expect, it } from "vitest";
import { transformerFusion } from "../demo/data";
import { buildFusion } from "../src/map/fusion_model";
import { mergeIds, newOrigin, readSelection, SelectionStore, translate, translatedLink, type LinkTable } from "../src/selection";

const links: LinkTable = { layerId: ["A", "B", "C"], nodeId: ["x", "y", "z"], layer: [0, 0, 1], node: [0, 1, 1] };

describe("merging", () => {
  it("replaces on a plain click", () => expect(mergeIds(["a"], ["b", "b"], false)).toEqual(["b"]));
  it("adds what is missing", () => expect(mergeIds(["a"], ["a", "b"], true)).toEqual(["a", "b"]));
  it("removes what was all there", () => expect(mergeIds(["a", "b", "c"], ["a", "b"], true)).toEqual(["c"]));
  it("does nothing with nothing", () => expect(mergeIds(["a"], [], true)).toEqual(["a"]));
});

describe("translation", () => {
  it("goes from layers to nodes and back, many to many", () => {
    expect(translate({ ids: ["A"], origin: "o", kind: "layer" }, "node", links)).toEqual({ ids: ["x", "y"], origin: "o", kind: "node" });
    expect(translate({ ids: ["y"], origin: "o", kind: "node" }, "layer", links).ids).toEqual(["A", "B"]);
    expect(translate({ ids: ["C"], origin: "o", kind: "layer" }, "node", links).ids).toEqual([]);
  });
  it("lets views of the two kinds share one store without echoes", () => {
    const store = new SelectionStore();
    const heard: string[][] = [];
    const nodes = translatedLink(store, "node", links);
    const stop = nodes.subscribe((s) => heard.push(s.ids));
    store.set({ ids: ["B"], origin: "table", kind: "layer" });
    store.set({ ids: ["B"], origin: "table", kind: "layer" });
    nodes.set({ ids: ["x"], origin: "graph", kind: "node" });
    stop();
    store.set({ ids: [], origin: "table", kind: "layer" });
    expect(heard).toEqual([["y"], ["x"]]);
  });
});

describe("what Python may send", () => {
  it("is read with care", () => {
    expect(readSelection(null).ids).toEqual([]);
    expect(readSelection({ ids: ["a", 3, null], kind: "node" })).toEqual({ ids: ["a"], origin: "", kind: "node" });
    expect(readSelection({ ids: "abc" }).ids).toEqual([]);
  });
  it("origins differ between views", () => expect(newOrigin("graph")).not.toBe(newOrigin("graph")));
});

describe("before and after", () => {
  const data = transformerFusion(3);
  const model = buildFusion(data);
  const layer = (id: string): number => data.plan.nodes.id.indexOf(id);
  const node = (id: string): number => data.original.nodes.id.indexOf(id);

  it("tells merged, empty and split layers apart", () => {
    expect(model.layerFlag[layer("sm80_xmma_gemm_f16_qkv_0")]).toBe("merged");
    expect(model.layerFlag[layer("__mye_move_0")]).toBe("empty");
    expect(model.layerFlag[layer("_gemm_mha_v2_0")]).toBe("");
  });
  it("tells split nodes and nodes that nobody claims apart", () => {
    expect(model.nodeFlag[node("/encoder/layer.1/mlp/act/Gelu")]).toBe("split");
    expect(model.nodeFlag[node("/pooler/Tanh")]).toBe("eliminated");
  });
  it("derives what can be derived when no flags are sent", () => {
    const bare = buildFusion({ ...data, flags: null });
    expect(bare.layerFlag[layer("__mye_move_0")]).toBe("empty");
    expect(bare.layerFlag[layer("__myl_Gelu_tail_1")]).toBe("split");
    expect(bare.nodeFlag[node("/pooler/Tanh")]).toBe("unknown");
  });
});
