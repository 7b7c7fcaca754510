/** The `data` trait as it arrives: an object, or bytes of JSON that may be gzipped. */
import type { GraphData, TableData, TextColumn } from "./types";
import { textLength } from "./columns";

export async function decode(raw: unknown): Promise<unknown> {
  if (raw instanceof DataView || raw instanceof ArrayBuffer || raw instanceof Uint8Array) {
    const bytes =
      raw instanceof ArrayBuffer
        ? new Uint8Array(raw)
        : new Uint8Array(raw.buffer as ArrayBuffer, raw.byteOffset, raw.byteLength);
    if (bytes.byteLength === 0) return {};
    const gzipped = bytes[0] === 0x1f && bytes[1] === 0x8b;
    const text = gzipped ? await gunzip(bytes) : new TextDecoder().decode(bytes);
    return JSON.parse(text) as unknown;
  }
  return raw;
}

async function gunzip(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser cannot unpack gzip. Send the data as plain JSON bytes.");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/**
 * Says in one sentence what is wrong with a graph, or null. A wrong index would otherwise surface
 * much later, as a puzzling error of the drawing code.
 */
export function faultOfGraph(data: unknown): string | null {
  if (!isRecord(data)) return "The graph is not an object.";
  const graph = data as Partial<GraphData>;
  if (!graph.nodes || !Array.isArray(graph.nodes.id)) return "The graph has no `nodes.id` column.";
  const n = graph.nodes.id.length;
  if (!Array.isArray(graph.nodes.kind) || graph.nodes.kind.length !== n) {
    return `\`nodes.kind\` must have ${n} entries, one per node.`;
  }
  if (!Array.isArray(graph.kinds)) return "The graph has no list of `kinds`.";
  const edges = graph.edges;
  if (!edges || !Array.isArray(edges.source) || !Array.isArray(edges.target)) {
    return "The graph has no `edges.source` and `edges.target` columns.";
  }
  if (edges.source.length !== edges.target.length) {
    return "`edges.source` and `edges.target` differ in length.";
  }
  for (let e = 0; e < edges.source.length; e++) {
    if (!isIndex(edges.source[e], n) || !isIndex(edges.target[e], n)) {
      return `Edge ${e} points to a node that does not exist (there are ${n}).`;
    }
  }
  for (const grouping of graph.groupings ?? []) {
    if (grouping.of.length !== n) return `Grouping "${grouping.name}" must place all ${n} nodes.`;
    const groups = grouping.group.id.length;
    if (grouping.group.parent.length !== groups || textLength(grouping.group.label) !== groups) {
      return `The group columns of grouping "${grouping.name}" differ in length.`;
    }
    for (const g of grouping.of) {
      if (g !== -1 && !isIndex(g, groups)) return `Grouping "${grouping.name}" names group ${g}, which does not exist.`;
    }
    for (const p of grouping.group.parent) {
      if (p !== -1 && !isIndex(p, groups)) return `Grouping "${grouping.name}" names parent ${p}, which does not exist.`;
    }
  }
  for (const overlay of graph.overlays ?? []) {
    if (overlay.values.length !== n) return `Overlay "${overlay.name}" must have ${n} values.`;
  }
  return null;
}

export function faultOfTable(data: unknown): string | null {
  if (!isRecord(data)) return "The table is not an object.";
  const table = data as Partial<TableData>;
  if (!Array.isArray(table.id) || !Array.isArray(table.columns) || !Array.isArray(table.rows)) {
    return "A table needs `id`, `columns` and `rows`.";
  }
  if (table.columns.length !== table.rows.length) return "`columns` and `rows` differ in length.";
  for (let c = 0; c < table.rows.length; c++) {
    const column = table.rows[c] as TextColumn;
    if (textLength(column) !== table.id.length) {
      return `Column "${table.columns[c]?.name ?? c}" must have ${table.id.length} entries.`;
    }
  }
  return null;
}

/** Puts infinite values where they belong. What they stand for is the worst there is, not the unknown. */
export function reviveGraph<G extends GraphData>(graph: G): G {
  for (const overlay of graph.overlays) for (const row of overlay.infinite ?? []) overlay.values[row] = Infinity;
  return graph;
}

export function reviveTable<T extends TableData>(table: T): T {
  table.columns.forEach((column, c) => {
    const values = table.rows[c];
    if (Array.isArray(values)) for (const row of column.infinite ?? []) (values as (number | string | null)[])[row] = Infinity;
  });
  return table;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isIndex(value: number | undefined, length: number): boolean {
  return value !== undefined && Number.isInteger(value) && value >= 0 && value < length;
}
