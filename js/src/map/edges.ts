/** Edges of the drawn scene by key and by the item that they leave or enter. */
import type { SceneEdge } from "./scene";

export class EdgeIndex {
  private readonly byKey: Map<string, SceneEdge>;
  private readonly leaving = new Map<number, SceneEdge[]>();
  private readonly entering = new Map<number, SceneEdge[]>();

  constructor(edges: readonly SceneEdge[]) {
    this.byKey = new Map(edges.map((edge) => [edge.key, edge]));
    for (const edge of edges) {
      add(this.leaving, edge.source, edge);
      add(this.entering, edge.target, edge);
    }
  }

  get(key: string): SceneEdge | undefined {
    return this.byKey.get(key);
  }

  /** Edges that leave an item. */
  out(item: number): readonly SceneEdge[] {
    return this.leaving.get(item) ?? [];
  }

  /** Edges that enter an item. */
  in(item: number): readonly SceneEdge[] {
    return this.entering.get(item) ?? [];
  }
}

function add(map: Map<number, SceneEdge[]>, at: number, edge: SceneEdge): void {
  const list = map.get(at);
  if (list) list.push(edge);
  else map.set(at, [edge]);
}
