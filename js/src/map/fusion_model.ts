/** What links a plan to its graph, and how each layer and node is marked. Pure functions. */
import type { FusionData, LayerFlag, NodeFlag } from "../types";

export interface FusionModel {
  nodesOf: number[][];
  layersOf: number[][];
  layerFlag: LayerFlag[];
  nodeFlag: NodeFlag[];
}

export function buildFusion(data: FusionData): FusionModel {
  const layers = data.plan.nodes.id.length;
  const nodes = data.original.nodes.id.length;
  const nodesOf: number[][] = Array.from({ length: layers }, () => []);
  const layersOf: number[][] = Array.from({ length: nodes }, () => []);
  data.links.layer.forEach((layer, k) => {
    const node = data.links.node[k]!;
    nodesOf[layer]?.push(node);
    layersOf[node]?.push(layer);
  });
  const nodeFlag = layersOf.map((owners, i): NodeFlag => {
    const sent = data.flags?.node?.[i];
    if (sent) return sent;
    return owners.length === 0 ? "unknown" : owners.length > 1 ? "split" : "";
  });
  const layerFlag = nodesOf.map((owned, i): LayerFlag => {
    const sent = data.flags?.layer?.[i];
    if (sent) return sent;
    if (owned.length === 0) return "empty";
    return owned.some((n) => layersOf[n]!.length > 1) ? "split" : "";
  });
  return { nodesOf, layersOf, layerFlag, nodeFlag };
}

export interface FlagStyle {
  /** One letter on the card. */
  letter: string;
  label: string;
  border: "solid" | "dashed" | "dotted" | "double";
}

export const FLAGS: Record<Exclude<LayerFlag | NodeFlag, "">, FlagStyle> = {
  merged: { letter: "M", label: "merged siblings into one layer", border: "double" },
  split: { letter: "S", label: "split: shares a node with other layers", border: "dotted" },
  empty: { letter: "∅", label: "owns no node of the graph", border: "dashed" },
  folded: { letter: "F", label: "folded into weights or shapes", border: "dashed" },
  constant: { letter: "C", label: "a constant", border: "dashed" },
  eliminated: { letter: "E", label: "needs no kernel", border: "dashed" },
  unknown: { letter: "?", label: "no layer names it", border: "dashed" },
};
