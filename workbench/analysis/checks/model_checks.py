"""Checks of a model's graph and file, each with evidence from its data.

Each check is a pure function of a graph, a plan or a measurement and returns findings. None gives general advice: a
check that finds nothing in the data returns nothing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from workbench.analysis.checks.finding import Finding, Severity
from workbench.analysis.checks.text import count_text, layers_of, listed, method_text, place_text, shape_text
from workbench.core.units import bytes_text
from workbench.model.graph import Graph
from workbench.model.model import Model
from workbench.plan.plan import CONVERSIONS, Plan

if TYPE_CHECKING:
    from workbench.model.shape_profile import ShapeProfile
    from workbench.plan.partition import Partition


PROTOBUF_LIMIT = 2**31 - 1
"""Largest protobuf message in bytes; an ONNX file with embedded weights can't be larger."""

LARGE_CONSTANT = 50_000_000
"""Constants of at least this size (bytes) are reported."""


_INT64 = {"int64", "uint64"}


# --- of a graph ---------------------------------------------------------------------------------------


def unsupported(partition: Partition) -> list[Finding]:
    """Operators that TensorRT does not support, according to its parser or builder."""
    back = partition.fallbacks
    if not back and not partition.refusals:
        return []
    builder = partition.method == "builder"
    named = not builder or any(r["nodes"] for r in partition.refusals)
    ops = Counter(o.op for o in back if o.reason)
    operators = ", ".join(f"{op}{f' ({n} times)' if n > 1 else ''}" for op, n in ops.most_common(5))
    places = list(dict.fromkeys(place_text(o.source) for o in back if o.source.file))
    where = f", from {', '.join(places[:3])}" if places else ""
    sizes = [len(s.operators) for s in partition.segments if s.runs_on == "tensorrt"]
    least = "" if partition.proven else "At least "
    message = f"{least}{len(back)} of {len(partition.operators)} nodes fall back{where}. The model does not build as one engine."
    engines = f"{len(sizes)} engine{'s' if len(sizes) > 1 else ''} of {listed(map(str, sizes))} nodes"
    crossings = (
        f"{partition.crossings} change{'s' if partition.crossings != 1 else ''} between TensorRT and the fallback"
    )
    if not named:
        message = f"The model does not build, and the error names none of its {len(back)} nodes: {partition.refusals[0]['message']}"
    elif not sizes:
        message += " No node is left for TensorRT."
    elif builder and partition.proven:
        message += f" The other {sum(sizes)} nodes were built without them: {engines}, with {crossings}."
    elif builder:
        message += f" It is unknown whether the other {sum(sizes)} nodes build without them."
    else:
        message += (
            f" The parser accepts the other {sum(sizes)} nodes, for {engines}, with {crossings}; only the "
            "builder can show whether they build."
        )
    if builder and partition.refusals:
        reasons = " ".join(dict.fromkeys(str(r["message"]).strip() for r in partition.refusals[:3]))
        ways = list(dict.fromkeys(str(r["hint"]) for r in partition.refusals if r["hint"]))
    else:
        reasons, ways = "; ".join(dict.fromkeys(f"{o.op} {o.name}: {o.reason}" for o in back[:5])), []
    remedy = " ".join(ways[:3]) or (
        "Replace the operation in the model, write a plugin, or let Torch-TensorRT or ONNX Runtime run it between engines."
    )
    return [
        Finding(
            "unsupported", f"TensorRT does not support {operators}" if named else "TensorRT's builder refuses the model", message, "problem",
            f"Reported {method_text(partition)}: {reasons}", remedy, nodes=tuple(o.name for o in back) if named else (),
        )
    ]  # fmt: skip


_BROKEN: dict[str, tuple[str, Severity, str]] = {
    "nodes-out-of-order": ("Nodes of the file are out of order", "note", "Sort the nodes and save it again: ONNX's checker refuses this file."),
    "function-kept": ("A local function is shown as one node", "note", "Export the function and the model for the same opset."),
    "shapes-unknown": ("Shapes of the model are unknown", "note", "Costs and bytes that depend on them are also unknown."),
    "undefined-tensor": ("The model reads a tensor that no node computes", "problem", "Export the model again: no compiler accepts it."),
    "duplicate-tensor": ("A tensor of the model is computed more than once", "problem", "Export the model again: ONNX forbids it."),
    "missing-input": ("A node lacks inputs", "problem", "Export the model again: no compiler accepts it."),
    "wrong-attribute": ("An attribute is missing or of the wrong type", "problem", "Export the model again: no compiler accepts it."),
    "bad-dimension": ("An input or output has an impossible dimension", "problem", "Declare the dimension as a number above 0 or as a name."),
}  # fmt: skip
"""Title, severity and remedy for each code of `Graph.problems`."""


def broken(graph: Graph) -> list[Finding]:
    """Problems of the model's file."""
    found: dict[str, list[Any]] = {}
    for problem in graph.problems:
        found.setdefault(problem.code, []).append(problem)
    out = []
    for code, problems in found.items():
        title, severity, remedy = _BROKEN[code]
        more = f" And {len(problems) - 5} more." if len(problems) > 5 else ""
        nodes = tuple(dict.fromkeys(n for p in problems for n in p.nodes))
        message = " ".join(p.text for p in problems[:5]) + more
        out.append(Finding(code, title, message, severity, "Read from the model's file.", remedy, nodes=nodes))
    return out


def file_size(model: Model) -> list[Finding]:
    """An ONNX file near or beyond protobuf's size limit."""
    inside = model.path.stat().st_size
    if inside < 0.75 * PROTOBUF_LIMIT:
        return []
    over = inside > PROTOBUF_LIMIT
    return [
        Finding(
            "protobuf-limit",
            "The ONNX file is larger than protobuf's limit" if over
            else f"The ONNX file is at {inside / PROTOBUF_LIMIT:.0%} of the 2 GB limit",
            "Tools that parse it as one protobuf refuse it." if over
            else "A tool may fail to save it with added data, such as shapes or wider weights.",
            "problem" if over else "note", f"{bytes_text(inside)} in {model.path.name}; the limit is {bytes_text(PROTOBUF_LIMIT)} (computed).",
            "Save it with external data: onnx.save(model, path, save_as_external_data=True).",
        )
    ]  # fmt: skip


def missing_profiles(graph: Graph, profile: ShapeProfile | None = None) -> list[Finding]:
    """Dynamic inputs without a shape: an engine can't be built until their shapes are given."""
    given = set() if profile is None else {*profile.inputs, *profile.values}
    open_inputs = {n: s for n, s in graph.dynamic_inputs.items() if n not in given and n not in graph.shape_inputs}
    if not open_inputs:
        return []
    shown = listed(f"{n} [{', '.join(str(d) if d is not None else '?' for d in s)}]" for n, s in open_inputs.items())
    told = graph.suggestion
    many = len(open_inputs) > 1
    return [
        Finding(
            "no-profile", f"{len(open_inputs)} input{'s are' if many else ' is'} dynamic and {'have' if many else 'has'} no shape yet",
            f"{shown}. TensorRT needs a shape, or the min, opt and max shape, of each to build.",
            "problem", "Read from the model's inputs.",
            told.words,
            nodes=tuple(dict.fromkeys(n.id for i in open_inputs for n in graph.consumers.get(i, []))), shapes=dict(told.texts),
        )
    ]  # fmt: skip


def shape_inputs(graph: Graph, profile: ShapeProfile | None = None) -> list[Finding]:
    """Inputs whose values the model reads as a shape: TensorRT needs a range of values for each."""
    from workbench.model.shape_inputs import INTEGERS

    found = []
    for each in graph.shape_inputs.values():
        valued = profile is not None and each.name in profile.values
        readers = [graph.by_id[i] for i in each.readers]
        by = listed(f"{n.op} {n.id}" for n in readers[:3]) + (" and more" if len(readers) > 3 else "")
        shapes: dict[str, str] = {}
        if each.constant:
            title, severity = f"{each.name} is read as axes, which must be constants", "problem"
            message = f"{by} reads its values; TensorRT accepts axes only if they are known at build time."
            remedy = f"Make {each.name} a constant of the model."
        elif each.dtype and each.dtype not in INTEGERS:
            title, severity = f"{each.name} is read as a shape and is {each.dtype}", "problem"
            message = f"{by} reads its values as sizes; TensorRT accepts only INT32 and INT64 for such an input."
            remedy = f"Make {each.name} a constant of the model, or an integer."
        else:
            title, severity = f"{each.name} is read as a shape", "note" if valued else "problem"
            message = (
                f"{by} reads its values as sizes or positions, so TensorRT needs their min, opt and max "
                "values to build the engine, and the actual values on the host to run it."
            )
            told = graph.suggestion
            shapes = {} if valued else dict(told.texts)
            remedy = (
                f"Make {each.name} a constant of the model if it never changes." if valued else
                f"{told.words} Or make {each.name} a constant of the model."
            )  # fmt: skip
        found.append(
            Finding(
                "shape-input", title, message, severity,  # type: ignore[arg-type]
                "Computed by tracing the input through the graph.", remedy, nodes=each.readers, shapes=shapes,
            )
        )  # fmt: skip
    return found


def full_attention(graph: Graph) -> list[Finding]:
    """Attention of opset 23 in FP32: TensorRT has kernels for FP16 and BF16 only."""
    found = []
    for node in graph.nodes:
        if node.op != "Attention" or node.domain not in {"", "ai.onnx"} or node.id not in graph.live:
            continue
        query = graph.tensor(node.inputs[0])
        # Attention with one query per step, or with three dimensions, built in tests.
        steps = query.shape[2] if query.shape is not None and len(query.shape) == 4 else None
        if query.dtype == "float32" and isinstance(steps, int) and steps > 1:
            found.append(node)
    if not found:
        return []
    return [
        Finding(
            "fp32-attention", f"{count_text(len(found), 'Attention node')} in FP32, for which there is no kernel",
            f"{listed(n.id for n in found[:3])}{' and more' if len(found) > 3 else ''}. The parser accepts "
            f"{'it' if len(found) == 1 else 'them'}, the builder does not. FP16 and BF16 build.",
            "problem",
            "Types and shapes read from the graph. Measured: TensorRT for RTX 1.7.1 refused each of 15 FP32 Attention nodes of "
            "4 dimensions with more than one query, and built all that were tested in FP16 and BF16.",
            'precision="fp16" or precision="bf16" (--precision), or export with opset 22 or earlier, which exports MatMul and Softmax.',
            nodes=tuple(n.id for n in found),
        )
    ]  # fmt: skip


def int32_quantization(graph: Graph) -> list[Finding]:
    """DequantizeLinear of INT32, which ONNX Runtime's quantizer writes for biases."""
    found = [
        n for n in graph.nodes
        if n.op == "DequantizeLinear" and n.domain in {"", "ai.onnx"} and n.id in graph.live
        and graph.tensor(n.inputs[0]).dtype == "int32"
    ]  # fmt: skip
    if not found:
        return []
    biased = [
        n.id for n in found
        for reader in graph.consumers.get(n.outputs[0], [])
        if reader.op in {"Conv", "ConvTranspose", "Gemm"} and n.outputs[0] in reader.inputs[2:3]
    ]  # fmt: skip
    what = "of biases " if len(biased) == len(found) else ""
    return [
        Finding(
            "int32-quantization", f"{count_text(len(found), 'DequantizeLinear node')} {what}{'reads' if len(found) == 1 else 'read'} INT32",
            f"{listed(n.id for n in found[:3])}{' and more' if len(found) > 3 else ''}. TensorRT dequantizes 8-bit and 4-bit "
            "types only, so the model does not build.",
            "problem",
            "Types read from the graph. TensorRT's error: input has type Int32 but must have type FP8, FP4, Int4, Int8, or UInt8.",
            "Quantize without biases: in ONNX Runtime extra_options={'QuantizeBias': False, 'ActivationSymmetric': True, "
            "'WeightSymmetric': True}, or with session.precision.quantize, which does not quantize biases.",
            nodes=tuple(n.id for n in found),
        )
    ]  # fmt: skip


def zero_points(graph: Graph) -> list[Finding]:
    """Q/DQ nodes with a zero point other than 0: TensorRT's quantization is symmetric."""
    values = _small_constants(graph)
    found = [
        n for n in graph.nodes
        if n.op in {"QuantizeLinear", "DequantizeLinear"} and n.domain in {"", "ai.onnx"} and n.id in graph.live
        and len(n.inputs) > 2 and n.inputs[2] in values and values[n.inputs[2]].any()
        and graph.tensor(n.inputs[2]).dtype in {"int8", "uint8"}
    ]  # fmt: skip
    if not found:
        return []
    return [
        Finding(
            "zero-points", f"{count_text(len(found), 'Q/DQ node')} with a zero point other than 0",
            f"{listed(n.id for n in found[:3])}{' and more' if len(found) > 3 else ''}. TensorRT quantizes symmetrically, around 0.",
            "problem", "Zero points read from the graph. TensorRT's error: Non-zero zero point is not supported.",
            "Quantize symmetrically: in ONNX Runtime activation_type=QuantType.QInt8 and extra_options={'ActivationSymmetric': True, "
            "'WeightSymmetric': True}, or with session.quantize.",
            nodes=tuple(n.id for n in found),
        )
    ]  # fmt: skip


def _small_constants(graph: Graph) -> dict[str, Any]:
    """Values of constants in the graph, by tensor."""
    from onnx import numpy_helper

    wanted = {n.inputs[2] for n in graph.nodes if n.op in {"QuantizeLinear", "DequantizeLinear"} and len(n.inputs) > 2}
    tensors = {t.name: t for t in graph.proto.graph.initializer if t.name in wanted}
    for node in graph.nodes:
        if node.op == "Constant" and node.outputs[0] in wanted:
            tensors.update((node.outputs[0], a.t) for a in node.proto.attribute if a.name == "value")
    found = {}
    for name, tensor in tensors.items():
        if not tensor.external_data:
            with contextlib.suppress(
                KeyError, TypeError, ValueError
            ):  # a damaged tensor: `Graph.problems` and the parser report it
                found[name] = numpy_helper.to_array(tensor)
    return found


def branch_ranks(graph: Graph) -> list[Finding]:
    """If nodes whose branches return tensors of different ranks, selected at run time."""
    found = []
    for node in graph.nodes:
        if (
            node.op != "If"
            or node.domain not in {"", "ai.onnx"}
            or node.inputs[0] in graph.constants
            or node.id not in graph.live
        ):
            continue
        bodies = {a.name: a.g for a in node.proto.attribute if a.HasField("g")}
        if set(bodies) != {"then_branch", "else_branch"}:
            continue
        for yes, no in zip(bodies["then_branch"].output, bodies["else_branch"].output, strict=False):
            ranks = [None if (t := graph.tensor(v.name)).shape is None else len(t.shape) for v in (yes, no)]
            if None not in ranks and ranks[0] != ranks[1]:
                found.append((node.id, ranks))
                break
    if not found:
        return []
    return [
        Finding(
            "branch-ranks", f"{count_text(len(found), 'If node')} whose branches return different ranks",
            f"{listed(f'{i} ({a} and {b} dimensions)' for i, (a, b) in found[:3])}. The parser accepts it; the builder refuses it "
            "unless the condition is a constant.",
            "problem",
            "Ranks read from the graph's declared shapes. TensorRT's error: must have inputs with equal ranks when condition "
            "is not a build-time constant.",
            "Give both branches the same rank (Unsqueeze, Reshape), or fix the condition and export again.",
            nodes=tuple(i for i, _ in found),
        )
    ]  # fmt: skip


def large_constants(graph: Graph, plan: Plan | None = None) -> list[Finding]:
    """Constants so large that they dominate memory use and loading time."""
    sizes = {n: graph.tensor(n).bytes or 0 for n in graph.initializers}
    large = sorted((n for n, size in sizes.items() if size >= LARGE_CONSTANT), key=lambda n: -sizes[n])
    if not large:
        return []
    total, sum_large = sum(sizes.values()), sum(sizes[n] for n in large)
    nodes = tuple(dict.fromkeys(node.id for n in large for node in graph.consumers.get(n, [])))
    first = listed(f"{n} {shape_text(graph.tensor(n).shape)} {bytes_text(sizes[n])}" for n in large[:3])
    more = f" and {len(large) - 3} more" if len(large) > 3 else ""
    return [
        Finding(
            "large-constants", f"{len(large)} constant{'s' if len(large) > 1 else ''} of {bytes_text(LARGE_CONSTANT)} or more, {sum_large / total:.0%} of all weights",
            f"{first}{more}. Each is stored in the ONNX file, in the engine and in GPU memory.",
            "note", f"Computed from the shapes and types of {len(sizes)} constants, {bytes_text(total)} in all.",
            "Cast or quantize them (an embedding is read a few rows at a time and does not need FP32), or share one table.",
            layers=layers_of(plan, nodes), nodes=nodes,
        )
    ]  # fmt: skip


def int64_casts(graph: Graph, plan: Plan | None = None) -> list[Finding]:
    """Casts to or from INT64 of tensors that depend on inputs."""
    casts = [
        n for n in graph.nodes
        if n.op == "Cast" and n.inputs and n.outputs and n.outputs[0] not in graph.constants
        and (graph.tensor(n.inputs[0]).dtype in _INT64) != (graph.tensor(n.outputs[0]).dtype in _INT64)
        and graph.tensor(n.inputs[0]).dtype and graph.tensor(n.outputs[0]).dtype
    ]  # fmt: skip
    if not casts:
        return []
    fed = [n for n in casts if n.inputs[0] in graph.inputs]
    inputs = list(dict.fromkeys(n.inputs[0] for n in fed))
    layers = layers_of(plan, tuple(n.id for n in casts))
    text = f"{listed(f'{n.id} ({graph.tensor(n.inputs[0]).dtype} to {graph.tensor(n.outputs[0]).dtype})' for n in casts[:3])}"
    text += f" and {len(casts) - 3} more." if len(casts) > 3 else "."
    if plan is not None:
        own = [la for la in plan.layers if la.id in set(layers) and la.kind in CONVERSIONS]
        text += (
            f" {count_text(len(own), 'kernel')} of {'its' if len(own) == 1 else 'their'} own among them."
            if own
            else " None is a separate kernel."
        )
    return [
        Finding(
            "int64-casts", f"{len(casts)} cast{'s' if len(casts) > 1 else ''} to or from INT64 at run time", text, "note",
            "Read from the graph's types." + (" Kernels: reported by the compiler." if plan is not None else ""),
            f"Give the model INT32 inputs; {listed(inputs)} {'is' if len(inputs) == 1 else 'are'} cast at once." if fed
            else "Create indices and masks in one type and keep it.",
            layers=layers, nodes=tuple(n.id for n in casts),
        )
    ]  # fmt: skip


def runtime_shapes(graph: Graph) -> list[Finding]:
    """Shape arithmetic that can't be folded because an input is dynamic or a shape depends on data."""
    live = [n for n in graph.nodes if n.id in graph.live]
    data = [
        n
        for n in live
        if n.op in {"NonZero", "Unique", "NonMaxSuppression", "Compress"} and n.outputs[0] not in graph.constants
    ]
    asked = [n for n in live if n.op in {"Shape", "Size"} and n.outputs[0] not in graph.constants]
    found = []
    if data:
        found.append(
            Finding(
                "data-dependent-shapes", f"{len(data)} node{'s' if len(data) > 1 else ''} make{'' if len(data) > 1 else 's'} a shape that depends on values",
                f"{listed(f'{n.op} {n.id}' for n in data[:3])}. The size of its output is known only after it runs; memory is allocated for the worst case.",
                "cost", "Read from the graph's operators.", "Use a mask of fixed size (where) instead of selecting elements.",
                nodes=tuple(n.id for n in data),
            )
        )  # fmt: skip
    if asked:
        found.append(
            Finding(
                "runtime-shapes", f"{len(asked)} shape{'s are' if len(asked) > 1 else ' is'} computed at run time",
                f"{listed(f'{n.op} {n.id}' for n in asked[:3])}{' and more' if len(asked) > 3 else ''}: their tensors are dynamic, so nodes after them can't be folded until the shapes are known.",
                "note", "Computed: none of these shapes follows from constants at the declared shapes.",
                "Build with fixed shapes if they never change; this removes the arithmetic.",
                nodes=tuple(n.id for n in asked),
            )
        )  # fmt: skip
    return found


# --- of an engine -------------------------------------------------------------------------------------
