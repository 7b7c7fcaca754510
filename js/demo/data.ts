/** Synthetic graphs and plans for the harness and the tests: deterministic, no compiler. */
import type { DetailsRecord, FusionData, GraphData, Grouping, LayerFlag, NodeFlag, ReportPayload, SelectionKind, TableData } from "../src/types";

const KINDS = ["conv", "gemm", "attention", "pointwise", "reduction", "pooling", "norm", "layout", "sync"];

/** A small generator of repeatable numbers. */
function random(seed: number): () => number {
  let s = seed;
  return () => {
    s = (s * 1664525 + 1013904223) >>> 0;
    return s / 2 ** 32;
  };
}

class Builder {
  readonly id: string[] = [];
  readonly label: string[] = [];
  readonly sub: string[] = [];
  readonly kind: number[] = [];
  readonly scope: string[] = [];
  readonly source: number[] = [];
  readonly target: number[] = [];
  readonly tensor: string[] = [];
  readonly shape: string[] = [];
  readonly dtype: string[] = [];
  readonly format: string[] = [];
  readonly conversion: number[] = [];

  add(id: string, label: string, kind: string, scope: string, from: number[], shape: string, dtype = "fp16", sub = ""): number {
    const i = this.id.length;
    this.id.push(id);
    this.label.push(label);
    this.sub.push(sub || `${dtype} · ${shape}`);
    this.kind.push(KINDS.indexOf(kind));
    this.scope.push(scope);
    for (const f of from) {
      this.source.push(f);
      this.target.push(i);
      this.tensor.push(`${this.id[f]}_out`);
      this.shape.push(shape);
      this.dtype.push(dtype);
      this.format.push(kind === "conv" ? "NHWC8" : "row");
      this.conversion.push(kind === "layout" ? (label.includes("Cast") ? 2 : label.includes("both") ? 3 : 1) : 0);
    }
    return i;
  }

  /** Slash paths become nested groups. */
  grouping(name: string, label: string): Grouping {
    const id: string[] = [];
    const labels: string[] = [];
    const parent: number[] = [];
    const known = new Map<string, number>();
    const group = (path: string): number => {
      if (!path) return -1;
      const seen = known.get(path);
      if (seen !== undefined) return seen;
      const cut = path.lastIndexOf("/");
      const up = group(cut < 0 ? "" : path.slice(0, cut));
      const at = id.length;
      known.set(path, at);
      id.push(path);
      labels.push(path.slice(cut + 1));
      parent.push(up);
      return at;
    };
    const of = this.scope.map(group);
    return { name, label, group: { id, label: labels, parent }, of };
  }

  data(of: SelectionKind, title: string, groupings: Grouping[], seed = 7): GraphData {
    const next = random(seed);
    const time = this.kind.map((k) => Math.round((KINDS[k] === "gemm" || KINDS[k] === "conv" ? 12 : KINDS[k] === "attention" ? 30 : 2) * (0.4 + next() * 2) * 10) / 10);
    return {
      version: 1, of, title, kinds: KINDS,
      nodes: { id: this.id, label: this.label, sub: this.sub, kind: this.kind },
      groupings,
      edges: { source: this.source, target: this.target, tensor: this.tensor, shape: this.shape, dtype: this.dtype, format: this.format, conversion: this.conversion },
      overlays: [
        { name: "time", label: "Time", unit: "us", type: "sequential", values: time.map((t, i) => (i % 37 === 5 ? null : t)), source: "measured" },
        { name: "bytes", label: "Bytes moved", unit: "B", type: "sequential", values: time.map((t) => Math.round(t * 81_234)), source: "estimated" },
        { name: "precision", label: "Precision", unit: "", type: "categorical", values: this.kind.map((k, i) => (KINDS[k] === "norm" ? 0 : i % 11 === 3 ? 2 : 1)), categories: ["fp32", "fp16", "int8"], source: "reported" },
        { name: "error", label: "Error against fp32", unit: "%", type: "diverging", values: this.kind.map(() => Math.round((next() - 0.45) * 400) / 100), source: "computed" },
      ],
    };
  }
}

export function transformerOriginal(blocks: number): Builder {
  const b = new Builder();
  const s = "1x128x768";
  const ids = b.add("/embeddings/word/Gather", "Gather", "layout", "embeddings", [], s, "fp32");
  const pos = b.add("/embeddings/position/Gather", "Gather", "layout", "embeddings", [], s, "fp32");
  const mask = b.add("/mask/Sub", "Sub", "pointwise", "", [], "1x1x128x128", "fp32");
  const sum = b.add("/embeddings/Add", "Add", "pointwise", "embeddings", [ids, pos], s, "fp32");
  let x = b.add("/embeddings/LayerNorm", "LayerNormalization", "norm", "embeddings", [sum], s, "fp32");
  for (let k = 0; k < blocks; k++) {
    const p = `encoder/layer.${k}`;
    const at = `${p}/attention`;
    const ff = `${p}/mlp`;
    const op = (scope: string, name: string, label: string, kind: string, from: number[], shape = s): number => b.add(`/${scope}/${name}`, label, kind, scope, from, shape);
    const heads = ["query", "key", "value"].map((h) => {
      const mm = op(`${at}/self`, `${h}/MatMul`, "MatMul", "gemm", [x]);
      const add = op(`${at}/self`, `${h}/Add`, "Add", "pointwise", [mm]);
      const rs = op(`${at}/self`, `${h}/Reshape`, "Reshape", "layout", [add], "1x128x12x64");
      return op(`${at}/self`, `${h}/Transpose`, "Transpose", "layout", [rs], "1x12x128x64");
    });
    const qk = op(`${at}/self`, "MatMul", "MatMul", "gemm", [heads[0]!, heads[1]!], "1x12x128x128");
    const div = op(`${at}/self`, "Div", "Div", "pointwise", [qk], "1x12x128x128");
    const add = op(`${at}/self`, "Add", "Add", "pointwise", [div, mask], "1x12x128x128");
    const sm = op(`${at}/self`, "Softmax", "Softmax", "reduction", [add], "1x12x128x128");
    const av = op(`${at}/self`, "MatMul_1", "MatMul", "gemm", [sm, heads[2]!], "1x12x128x64");
    const tr = op(`${at}/self`, "Transpose_out", "Transpose", "layout", [av], "1x128x12x64");
    const rs = op(`${at}/self`, "Reshape_out", "Reshape", "layout", [tr]);
    const om = op(`${at}/output`, "dense/MatMul", "MatMul", "gemm", [rs]);
    const oa = op(`${at}/output`, "dense/Add", "Add", "pointwise", [om]);
    const or = op(`${at}/output`, "Add", "Add", "pointwise", [oa, x]);
    const ln = op(`${at}/output`, "LayerNorm", "LayerNormalization", "norm", [or]);
    const m1 = op(ff, "up/MatMul", "MatMul", "gemm", [ln], "1x128x3072");
    const a1 = op(ff, "up/Add", "Add", "pointwise", [m1], "1x128x3072");
    const ge = op(ff, "act/Gelu", "Gelu", "pointwise", [a1], "1x128x3072");
    const m2 = op(ff, "down/MatMul", "MatMul", "gemm", [ge]);
    const a2 = op(ff, "down/Add", "Add", "pointwise", [m2]);
    const r2 = op(ff, "Add", "Add", "pointwise", [a2, ln]);
    x = op(ff, "LayerNorm", "LayerNormalization", "norm", [r2]);
  }
  const pool = b.add("/pooler/dense/Gemm", "Gemm", "gemm", "pooler", [x], "1x768");
  b.add("/pooler/Tanh", "Tanh", "pointwise", "pooler", [pool], "1x768");
  return b;
}

export function transformerFusion(blocks: number): FusionData {
  const o = transformerOriginal(blocks);
  const p = new Builder();
  const at = new Map(o.id.map((id, i) => [id, i]));
  const links: FusionData["links"] = { layer: [], node: [] };
  const flags: LayerFlag[] = [];
  const own = (layer: number, flag: LayerFlag, ...nodes: string[]): number => {
    for (const n of nodes) {
      const i = at.get(n);
      if (i === undefined) throw new Error(`no node ${n}`);
      links.layer.push(layer);
      links.node.push(i);
    }
    flags[layer] = flag;
    return layer;
  };
  const s = "1x128x768";
  const cast = own(p.add("reformat_input_ids", "Reformat (Cast)", "layout", "embeddings", [], s, "fp16"), "empty");
  const embed = own(p.add("__myl_GathGathAddMeanSubMulMeanAddSqrtDivMul_0x1f", "__myl_GathGathAddMeanSubMulMeanAddSqrtDivMul", "norm", "embeddings", [cast], s), "", "/embeddings/word/Gather", "/embeddings/position/Gather", "/embeddings/Add", "/embeddings/LayerNorm");
  const mask = own(p.add("__myl_Sub_0x2c", "__myl_Sub", "pointwise", "", [], "1x1x128x128"), "", "/mask/Sub");
  let x = embed;
  for (let k = 0; k < blocks; k++) {
    const scope = `encoder/layer.${k}`;
    const a = `/${scope}/attention`;
    const f = `/${scope}/mlp`;
    const g = (name: string, label: string, kind: string, from: number[], shape = s): number => p.add(`${name}_${k}`, label, kind, scope, from, shape, "fp16");
    const qkv = own(g("sm80_xmma_gemm_f16_qkv", "gemm f16 128x128 (q, k, v)", "gemm", [x], "1x128x2304"), "merged",
      ...["query", "key", "value"].flatMap((h) => [`${a}/self/${h}/MatMul`, `${a}/self/${h}/Add`]));
    const move = own(g("__mye_move", "Reformat row to both", "layout", [qkv], "3x12x128x64"), "empty");
    const mha = own(g("_gemm_mha_v2", "fused multi-head attention", "attention", [move, mask], "1x12x128x64"), "",
      ...["query", "key", "value"].flatMap((h) => [`${a}/self/${h}/Reshape`, `${a}/self/${h}/Transpose`]),
      `${a}/self/MatMul`, `${a}/self/Div`, `${a}/self/Add`, `${a}/self/Softmax`, `${a}/self/MatMul_1`, `${a}/self/Transpose_out`, `${a}/self/Reshape_out`);
    const out = own(g("sm80_xmma_gemm_f16_out", "gemm f16 64x64 (attention output)", "gemm", [mha]), "", `${a}/output/dense/MatMul`, `${a}/output/dense/Add`);
    const ln = own(g("__myl_AddMeanSubMul", "__myl_AddMeanSubMulMeanAddSqrtDivMulMulAdd", "norm", [out, x]), "", `${a}/output/Add`, `${a}/output/LayerNorm`);
    const up = own(g("sm80_xmma_gemm_f16_gelu", "gemm f16 128x256 + gelu", "gemm", [ln], "1x128x3072"), k % 3 === 1 ? "split" : "", `${f}/up/MatMul`, `${f}/up/Add`, `${f}/act/Gelu`);
    const from = k % 3 === 1 ? own(g("__myl_Gelu_tail", "__myl_MulErfAddMul", "pointwise", [up], "1x128x3072"), "split", `${f}/act/Gelu`) : up;
    const down = own(g("sm80_xmma_gemm_f16_down", "gemm f16 64x64 (down)", "gemm", [from]), "", `${f}/down/MatMul`, `${f}/down/Add`);
    x = own(g("__myl_AddMeanSubMul_2", "__myl_AddMeanSubMulMeanAddSqrtDivMulMulAdd", "norm", [down, ln]), "", `${f}/Add`, `${f}/LayerNorm`);
  }
  own(p.add("gemm_pooler", "gemm f16 32x32 + tanh", "gemm", "pooler", [x], "1x768"), "", "/pooler/dense/Gemm");
  const nodeFlags: NodeFlag[] = o.id.map((id) => (id === "/pooler/Tanh" ? "eliminated" : ""));
  return {
    version: 1,
    original: o.data("node", `bert, ${blocks} blocks · ONNX`, [o.grouping("modules", "Module scopes")]),
    plan: p.data("layer", `bert, ${blocks} blocks · TensorRT plan`, [p.grouping("modules", "Module scopes")], 11),
    links, flags: { layer: flags, node: nodeFlags },
  };
}

export function resnetPlan(): GraphData {
  const b = new Builder();
  let x = b.add("Reformat_in", "Reformat (both)", "layout", "", [], "1x3x224x224");
  x = b.add("/conv1/Conv + /relu/Relu", "conv1 7x7 + ReLU", "conv", "stem", [x], "1x64x112x112");
  x = b.add("/maxpool/MaxPool", "MaxPool 3x3", "pooling", "stem", [x], "1x64x56x56");
  [3, 4, 6, 3].forEach((count, stage) => {
    const shape = `1x${256 << stage}x${56 >> stage}x${56 >> stage}`;
    for (let k = 0; k < count; k++) {
      const scope = `layer${stage + 1}/layer${stage + 1}.${k}`;
      const c1 = b.add(`/${scope}/conv1`, "conv1 1x1 + ReLU", "conv", scope, [x], shape, k % 2 ? "fp16" : "int8");
      const c2 = b.add(`/${scope}/conv2`, "conv2 3x3 + ReLU", "conv", scope, [c1], shape);
      const skip = k === 0 ? b.add(`/${scope}/downsample`, "downsample 1x1", "conv", scope, [x], shape) : x;
      x = b.add(`/${scope}/conv3`, "conv3 1x1 + Add + ReLU", "conv", scope, [c2, skip], shape);
    }
    if (stage === 1) x = b.add("Reformat_mid", "Reformat (Cast)", "layout", "", [x], shape);
  });
  x = b.add("/avgpool/GlobalAveragePool", "GlobalAveragePool", "pooling", "head", [x], "1x2048x1x1");
  b.add("/fc/Gemm", "fc", "gemm", "head", [x], "1x1000");
  return b.data("layer", "resnet50 · TensorRT plan", [b.grouping("modules", "Module scopes")], 3);
}

/** `flat` leaves the grouping out: one giant level. */
export function bigPlan(layers: number, flat: boolean): GraphData {
  const b = new Builder();
  const mask = b.add("mask", "mask", "pointwise", "", [], "1x1x128x128");
  let x = mask;
  let block = 0;
  while (b.id.length < layers) {
    const scope = `decoder/layers.${block >> 3 << 3}-${(block >> 3 << 3) + 7}/layer.${block}`;
    const entry = x;
    for (let k = 0; k < 14 && b.id.length < layers; k++) {
      const kind = k % 7 === 0 ? "gemm" : k === 5 ? "attention" : k % 7 === 3 ? "norm" : k === 9 ? "layout" : "pointwise";
      const from = k === 5 ? [x, mask] : k === 8 || k === 13 ? [x, entry] : [x];
      x = b.add(`layer_${block}_${k}`, `${kind}_${block}_${k}`, kind, scope, from, "1x128x4096");
    }
    block++;
  }
  return b.data("layer", `synthetic plan, ${layers} layers`, flat ? [] : [b.grouping("modules", "Module scopes")]);
}

export function hostile(): GraphData {
  const b = new Builder();
  const bad = `<script>window.__hacked = true</script><img src=x onerror="window.__hacked=true">`;
  const one = b.add(bad, bad, "conv", `outer ${bad}`, [], bad, bad, bad);
  b.add(`"quoted" & 'more'`, `"quoted" & 'more'`, "gemm", `outer ${bad}`, [one], "1x2");
  const data = b.data("layer", bad, [b.grouping("modules", bad)]);
  return { ...data, kinds: data.kinds.map((k) => (k === "gemm" ? bad : k)) };
}

export function tableOf(data: GraphData): TableData {
  const time = data.overlays.find((o) => o.name === "time")!;
  const bytes = data.overlays.find((o) => o.name === "bytes")!;
  const precision = data.overlays.find((o) => o.name === "precision")!;
  return {
    version: 1, title: "Layers", of: data.of, id: data.nodes.id,
    columns: [
      { name: "layer", label: "Layer", type: "text" },
      { name: "kind", label: "Kind", type: "tag" },
      { name: "precision", label: "Precision", type: "tag" },
      { name: "time", label: "Time", unit: "us", type: "number", source: "measured" },
      { name: "bytes", label: "Bytes moved", type: "bytes", source: "estimated" },
    ],
    rows: [
      data.nodes.label as string[],
      { dict: data.kinds, code: data.nodes.kind },
      { dict: precision.categories!, code: precision.values as number[] },
      time.values, bytes.values,
    ],
  };
}

export function detailsOf(id: string, kind: SelectionKind): DetailsRecord {
  return {
    id, title: kind === "layer" ? "Correlation, scale and activation in one kernel" : "Matrix product",
    words: "One launch multiplies the activations by the weights, adds the bias and applies the activation while the values are still in registers.",
    tags: ["gemm", "fp16", "evidence: reported"],
    sections: [
      { type: "facts", title: "Cost", rows: [
        { name: "Time", value: 12.42, unit: "us", source: "measured" },
        { name: "Work", value: 1.21e9, unit: "FLOP", source: "computed" },
        { name: "Saved", value: 3_145_728, unit: "B", source: "estimated", note: "by not writing the intermediate tensors" },
        { name: "Tactic", value: "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x32_stage4" },
      ] },
      { type: "ids", title: "Nodes", of: "node", ids: ["/encoder/layer.0/mlp/up/MatMul", "/encoder/layer.0/mlp/up/Add", "/encoder/layer.0/mlp/act/Gelu"] },
      { type: "code", title: "Source", path: "sample_models/bert.py", first: 41, mark: [43], lines: ["    def forward(self, x):", "        y = self.up(x)", "        y = torch.nn.functional.gelu(y)", "        return self.down(y)", ""] },
      { type: "table", title: "Tensors", columns: ["name", "shape", "dtype"], rows: [["x", "1x128x768", "fp16"], ["y", "1x128x3072", "fp16"]] },
      { type: "raw", title: "Raw record", text: JSON.stringify({ Name: id, LayerType: "gemm", TacticValue: "0x3f3" }, null, 2) },
    ],
  };
}

export function reportPayload(): ReportPayload {
  const fusion = transformerFusion(4);
  const details: Record<string, DetailsRecord> = {};
  for (const id of fusion.plan.nodes.id) details[`layer:${id}`] = detailsOf(id, "layer");
  return {
    title: "bert, 4 blocks, on sm86", subtitle: "Fusions of TensorRT 10.9, fp16",
    facts: [
      { name: "Launches before", value: fusion.original.nodes.id.length },
      { name: "Launches after", value: fusion.plan.nodes.id.length },
      { name: "Latency", value: 1.42, unit: "ms", source: "measured" },
      { name: "Bytes moved", value: 48_234_496, unit: "B", source: "estimated" },
    ],
    fusion, tables: [tableOf(fusion.plan)], details,
    figures: [{ title: "Launches by kind", alt: "bar chart", svg: '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 60"><rect width="210" height="20" y="5" fill="#3f6fd8"/><rect width="90" height="20" y="32" fill="#d9822b"/></svg>' }],
    footer: ["Built on a machine without a GPU. Figures marked measured come from the profile of the same day."],
  };
}

export type { Builder };
