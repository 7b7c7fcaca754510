"""The causes that the builder's error messages prove; see  for the parser's."""

from __future__ import annotations

import re

from workbench.compilers.tensorrt import targets
from workbench.compilers.tensorrt.case import Case, Explanation, rule, words
from workbench.compilers.tensorrt.causes import HEADS, LIMITS, NMS, OPSET, RECURRENT, SHAPES, TYPES
from workbench.compilers.tensorrt.causes_text import ONNX_TYPE, ids, label, listed, shortened
from workbench.core.units import bytes_text
from workbench.model.graph import Graph
from workbench.model.node import Node

_LESS_MEMORY = "Use smaller shapes or a smaller batch, or a lower workspace limit, and stop other programs that use it."


_WEIGHTS = {
    "fp8": ("float8e4m3fn", "float8e5m2"),
    "int4": ("int4", "uint4"),
    "fp4": ("float4e2m1",),
    "bf16": ("bfloat16",),
}


@rule(
    "target-type",
    r"Cannot compile for target\(s\) (?P<targets>.+?), because .*?HW-specific datatypes: (?P<types>[\w, ]+)",
)
def _target_type(m: re.Match[str], case: Case) -> Explanation:
    kinds = [targets.NAMES.get(t.strip(), t.strip()) for t in m["types"].split(",") if t.strip()]
    asked = [t for t in re.split(r"[,\s+]+", m["targets"]) if t]
    lacking = [k for k in kinds if any(targets.has(t, k) is False for t in asked)] or kinds
    needs = listed(f"{k.upper()} needs sm{targets.FIRST[k]} or later" for k in lacking if k in targets.FIRST)
    message = (
        f"{listed(asked)} {'have' if len(asked) > 1 else 'has'} no {listed(k.upper() for k in lacking).replace(' and ', ' and no ')}"
        + (f": {needs}." if needs else ".")
    )
    ways = [w for w in [targets.advice(kinds, case.offered)] if w]
    held = {
        name for k in lacking for name in case.graph.tensors if case.graph.tensor(name).dtype in _WEIGHTS.get(k, ())
    }
    nodes = [n.id for n in case.graph.nodes if held & {*n.inputs, *n.outputs}]
    quantized = all(n.op in {"QuantizeLinear", "DequantizeLinear"} for n in case.graph.nodes if n.id in nodes) and nodes
    fits = [k for k in ("int4", "int8") if k not in lacking and all(targets.has(t, k) for t in asked)]
    if quantized and fits:
        ways.append(
            "quantize the FP32 model to "
            + " or ".join(fits)
            + f" (`workbench quantize MODEL --to {fits[-1]} --rest fp16`)"
        )
    elif lacking == ["bf16"]:
        ways.append("start from the FP32 model with --precision fp16")
    return Explanation(message, "Use " + ", or ".join(ways) + "." if ways else None, nodes)


@rule(
    "target-operation",
    r"Cannot compile operation '(?P<layer>.*?)' for [^:]*\((?P<target>SM\d+)\): (?P<why>.*?)\.?\s*\Z",
)
def _target_operation(m: re.Match[str], case: Case) -> Explanation:
    target, node = m["target"].lower(), case.node_of(m["layer"])
    message = f"Node {node.id if node else m['layer']} can't be built for {target}: {m['why'].strip()}."
    ways = []
    if "FP32 GEMM" in m["why"] and case.config.precision == "fp32":
        ways.append("--precision fp16")
    others = [t for t in case.offered if (targets.number(t) or 0) > (targets.number(target) or 999)]
    ways += [w for w in [targets.advice(["fp32"], others)] if w]
    return Explanation(
        message, "Use " + ", or ".join(ways) + "." if ways else None, ids(node) or [m["layer"]], quote=False
    )


@rule(
    "no-attention-kernel",
    r"CHECK\(composite_op->is_decomposable\(\)\) failed.*?Attention operation was not supported by a dedicated kernel",
)
def _attention(_m: re.Match[str], case: Case) -> Explanation | None:
    nodes = [n for n in case.graph.nodes if n.op == "Attention" and n.domain in {"", "ai.onnx"}]
    if not nodes:
        return None
    graph = case.graph.at(case.config.profiles[0].sizes if case.config.profiles else {})
    kinds = {n.id: ONNX_TYPE.get(graph.tensor(n.inputs[0]).dtype, "") for n in nodes}
    heads = {n.id: _head(n, graph) for n in nodes}
    named = listed(f"{n.id}" for n in nodes[:5]) + (f" and {len(nodes) - 5} more" if len(nodes) > 5 else "")
    low = [i for i in kinds if kinds[i] == "FP32"]
    odd = {i: h for i, h in heads.items() if h is not None and not HEADS[0] <= h <= HEADS[1]}
    known = sorted({k for k in kinds.values() if k})
    message = f"{case.compiler} has no kernel for the Attention operator {named}" + (
        f" in {listed(known)}" if known else ""
    )
    message += f" with heads of {listed(str(h) for h in sorted(set(odd.values())))} values." if odd else "."
    if low and not odd:
        return Explanation(message, f"Build with --precision fp16 or bf16. Or: {OPSET}", list(kinds), quote=False)
    if odd:
        return Explanation(
            message,
            f"It has kernels in FP16 and BF16 for heads of {HEADS[0]} to {HEADS[1]} values. {OPSET}",
            list(odd),
            quote=False,
        )
    return Explanation(message, OPSET, list(kinds), quote=False)


def _head(node: Node, graph: Graph) -> int | None:
    """The size of one head, where it is known."""
    shape = graph.tensor(node.inputs[0]).shape
    if not shape or not isinstance(shape[-1], int):
        return None
    heads = int(node.attribute("q_num_heads", 0) or 0)
    return shape[-1] if len(shape) == 4 else shape[-1] // heads if heads else None


@rule("no-kernel", r"\A(?:Assertion \S+ failed\. )?(?P<layer>[^\n]+?) has no runners that implement it")
def _no_runners(m: re.Match[str], case: Case) -> Explanation:
    node = case.node_of(m["layer"])
    if node is not None and node.op == "NonMaxSuppression":
        return Explanation(
            f"{label(node)} can't be built: {case.compiler} has no kernel for it.",
            f"{NMS} To cut: {shortened(node, case.graph)}",
            [node.id],
        )
    types = [t for n in (node.inputs if node else ()) if (t := case.graph.tensor(n).dtype)]
    with_types = f" with inputs of {listed(dict.fromkeys(types))}" if types else ""
    message = f"{case.compiler} has no kernel for {label(node, m['layer'])}{with_types}."
    return Explanation(
        message,
        f"Replace this node, or cut the graph around it{': ' + shortened(node, case.graph) if node else ''}.",
        ids(node) or [m["layer"]],
    )


@rule("int8-convolution", r"CHECK\(dtype == myelinTypeFloat\b.*?myelinTypeFP8E4M3\) failed")
def _no_int8(_m: re.Match[str], case: Case) -> Explanation | None:
    """The builder's list of a convolution's types lacks INT8, and the model has convolutions in INT8."""
    nodes = int8_convolutions(case.graph)
    return _int8(nodes) if nodes else None


@rule(
    "int8-convolution",
    r"[Cc]ould not find any implementation for (?:node|operation) (?P<layer>[^\n]+?)[.)]*(?:\n|\Z| due to)",
)
def _no_int8_named(m: re.Match[str], case: Case) -> Explanation | None:
    nodes = int8_convolutions(case.graph)
    named = {n.id for n in case.nodes_in(m["layer"].strip())}
    return _int8(nodes) if named & set(nodes) and "insufficient workspace" not in m.string else None


def _int8(nodes: list[str]) -> Explanation:
    return Explanation(
        f"This version has no INT8 convolutions, and the model has {len(nodes)}: {', '.join(nodes[:5])}"
        + (" and more." if len(nodes) > 5 else "."),
        "Upgrade (TensorRT for RTX 1.7 builds them), quantize to fp8 instead (sm89 and later), or leave these "
        "nodes: `workbench quantize --keep NAME`, keep= in Python.",
        nodes,
    )


@rule(
    "workspace",
    r"[Cc]ould not find any implementation for (?:node|operation) (?P<layer>[^\n]+?)\.? due to insufficient workspace",
)
def _workspace(m: re.Match[str], case: Case) -> Explanation:
    nodes = case.nodes_in(m["layer"])
    named = listed(map(label, nodes)) or m["layer"].strip("'{} ")
    limit = f" of {bytes_text(case.config.workspace)}" if case.config.workspace is not None else ""
    return Explanation(
        f"No kernel for {named} fits into the workspace{limit}.",
        "Give more workspace (--workspace, workspace= in Python).",
        ids(*nodes) or [named],
    )


@rule("out-of-memory", r"[Cc]ould not find any implementation for (?:node|operation) (?P<layer>[^\n]+?)[.)]*(?:\n|\Z)")
def _no_memory_for(m: re.Match[str], case: Case) -> Explanation | None:
    """The builder reports out of memory for each kernel that it tries, goes on, and finally has no kernel left."""
    if not any(_memory.pattern.search(text) for text in case.said):
        return None
    nodes = case.nodes_in(m["layer"].strip())
    named = listed(map(label, nodes)) or m["layer"].strip("'{} ")
    message = f"TensorRT found no kernel for {named}, and it ran out of memory while it tried kernels."
    return Explanation(message, _LESS_MEMORY, ids(*nodes) or [named])


@rule("no-kernel", r"[Cc]ould not find any implementation for (?:node|operation) (?P<layer>[^\n]+?)[.)]*(?:\n|\Z)")
def _no_implementation(m: re.Match[str], case: Case) -> Explanation:
    nodes, layer = case.nodes_in(m["layer"].strip()), m["layer"].strip().strip("'{}")
    named = label(nodes[0]) if len(nodes) == 1 else layer
    low = case.config.precision != "fp32"
    types = f" in {case.config.precision.upper()}" if low else ""
    hint = (
        f"Leave that node in FP32: `workbench cast MODEL --to {case.config.precision} --keep NAME -o OUT`."
        if low and nodes
        else None
    )
    return Explanation(f"TensorRT has no kernel for {named} on {case.targets}{types}.", hint, ids(*nodes) or [layer])


@rule("code-generator", r"Error during shape inference of\s+(?P<what>[^\n]{1,300})")
def _generator(m: re.Match[str], case: Case) -> Explanation:
    """TensorRT accepted the model's shapes and then contradicted itself: the model's shapes are not the cause."""
    inner = re.search(r"\(([^(),]+)", m["what"])
    node = case.node_of(inner[1]) if inner else None
    where = f" near {label(node)}" if node is not None else ""
    loops = [n for n in case.graph.nodes if n.op in RECURRENT]
    hint = None
    if case.config.precision == "bf16" and loops:
        ops = "|".join(dict.fromkeys(n.op for n in loops))
        hint = f"The model has {ops}: with TensorRT for RTX 1.7 such a model failed in BF16 and was built with --precision fp16. Try that."
    return Explanation(
        f"TensorRT accepted the model's shapes, but its code generator failed on internal operations{where}.",
        hint,
        ids(node),
    )


@rule(
    "out-of-memory",
    r"\AError Code:? \d+: OutOfMemory|Error Code:? \d+: OutOfMemory \(|cudaError 2: out of memory|Cuda Runtime \(out of memory\)|\bstd::bad_alloc\b",
)
def _memory(m: re.Match[str], _case: Case) -> Explanation:
    size = re.search(r"Requested size was (\d+) bytes", m.string)
    asked = f" when TensorRT requested {bytes_text(int(size[1]))}" if size else ""
    where = "The machine" if "bad_alloc" in m[0] else "The GPU"
    return Explanation(
        f"{where} ran out of memory{asked}.",
        _LESS_MEMORY,
    )


@rule("gpu-not-supported", r"cannot run on this GPU")
def _gpu(m: re.Match[str], case: Case) -> Explanation:
    offered = f", or name a target to build for: {', '.join(case.offered)}" if case.offered else ""
    return Explanation(
        f"This TensorRT does not run on this machine's GPU: {words(m.string)}.",
        f"Install the flavor for it (`workbench doctor`){offered}.",
        quote=False,
    )


@rule("refit-needs-driver", r"CHECK\(status == CUDA_SUCCESS\) failed")
def _refit(_m: re.Match[str], case: Case) -> Explanation | None:
    asked = [
        n for n, on in (("refit", case.config.option("refit")), ("strip_plan", case.config.option("strip_plan"))) if on
    ]
    asked += [
        f
        for f in case.config.option("flags", ())
        if f.upper() in {"REFIT", "REFIT_IDENTICAL", "REFIT_INDIVIDUAL", "STRIP_PLAN"}
    ]
    if not asked or case.gpus:
        return None
    return Explanation(
        "Refittable and stripped engines need an NVIDIA driver while they are built, and this machine has none.",
        f"Build without {listed(asked)}, or on a machine with a GPU.",
    )


@rule("missing-library", r"Unable to load library: (?P<file>[^\s:]+)")
def _library(m: re.Match[str], case: Case) -> Explanation:
    hint = (
        "TensorRT for RTX comes without it: build without version_compatible."
        if "lean" in m["file"] and case.config.option("version_compatible")
        else "Install the package that contains it."
    )
    return Explanation(f"TensorRT needs the library {m['file']}, which can't be loaded here.", hint)


BUILDER = (
    _memory, _gpu, _target_type, _target_operation, _refit, _library, _attention, _no_runners, _no_int8, _no_int8_named, _workspace, _no_memory_for,
    _no_implementation, *TYPES, *LIMITS, *SHAPES, _generator,
)  # fmt: skip
"""Rules for the builder's errors; the first that matches is used."""


def int8_convolutions(graph: Graph) -> list[str]:
    """Ids of the convolutions whose input comes from a DequantizeLinear of INT8."""
    found = []
    for node in graph.nodes:
        source = graph.producer.get(node.inputs[0]) if node.op in {"Conv", "ConvTranspose"} and node.inputs else None
        if source is None or source.op != "DequantizeLinear":
            continue
        zero = graph.tensor(source.inputs[2]).dtype if len(source.inputs) > 2 else "uint8"  # ONNX's default
        if zero in {"int8", "uint8", ""}:
            found.append(node.id)
    return found
