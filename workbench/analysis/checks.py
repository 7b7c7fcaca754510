"""What is likely to surprise somebody about this model or engine: only what its own data prove.

Each check is a pure function of a graph, a plan or a measurement and gives a `Gotcha` or nothing. None is general
advice: a check that finds nothing in the data says nothing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.compilers.base import Diagnoses
from workbench.compilers.registry import find
from workbench.core.units import bytes_text
from workbench.model.graph import Graph
from workbench.model.model import Model
from workbench.model.provenance import Source
from workbench.plan.plan import CONVERSIONS, Layer, Plan

if TYPE_CHECKING:
    import pandas as pd

    from workbench.compilers.torch_tensorrt import Partition
    from workbench.engine import Engine
    from workbench.hardware.machine import Gpu
    from workbench.model.shape_profile import ShapeProfile

SCHEMA = "workbench.analysis.checks/1"
Severity = Literal["problem", "cost", "note"]
SEVERITIES: tuple[Severity, ...] = ("problem", "cost", "note")
"""From worst to least: it does not work, it costs time or memory, it is good to know."""

PROTOBUF_LIMIT = 2**31 - 1
"""Largest protobuf message, bytes; an ONNX file with its weights inside can't be larger."""

LARGE_CONSTANT = 50_000_000
"""Bytes from which on one constant is worth a look."""

LONG_BUILD = 10.0
"""Seconds from which on a build is called long."""

_INT64 = {"int64", "uint64"}


@dataclass(frozen=True)
class Gotcha:
    """One finding.

    Attributes:
        kind: What was found, one word or several with dashes.
        title: In one line.
        words: What it means here.
        severity: problem (it does not work), cost (time or memory), note.
        evidence: What proves it, and whether that was measured, computed or reported.
        todo: What to do, as Python where it is a call.
        layers: Ids of the plan's layers that it concerns.
        nodes: Ids of the graph's nodes that it concerns.
        shapes: Shapes and values to build with, by input, in the form that `workbench.ShapeProfile.parse` takes.
    """

    kind: str
    title: str
    words: str
    severity: Severity
    evidence: str
    todo: str
    layers: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    shapes: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "layers": list(self.layers), "nodes": list(self.nodes), "shapes": dict(self.shapes)}


@dataclass(frozen=True)
class Gotchas:
    """The findings about one model or engine, the worst first.

    Attributes:
        name: Of the model.
        engine: Id of the engine; "" where there is none.
        findings: What was found.
        unchecked: What could not be looked at, with the reason.
        partition: What TensorRT's parser or builder takes of the model; None where neither was asked.
    """

    name: str
    engine: str
    findings: tuple[Gotcha, ...]
    unchecked: tuple[str, ...] = ()
    partition: Partition | None = None

    def __iter__(self) -> Iterator[Gotcha]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, kind: str) -> Gotcha:
        """The finding of a kind; KeyError where there is none."""
        for finding in self.findings:
            if finding.kind == kind:
                return finding
        raise KeyError(kind)

    def __contains__(self, kind: object) -> bool:
        return any(f.kind == kind for f in self.findings)

    def to_frame(self) -> pd.DataFrame:
        """One row a finding."""
        import pandas as pd

        columns = ["severity", "kind", "title", "words", "evidence", "todo", "layers", "nodes"]
        return pd.DataFrame([[getattr(f, c) for c in columns] for f in self.findings], columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, ``workbench.analysis.checks/1``."""
        return {
            "schema": SCHEMA, "model": self.name, "engine": self.engine,
            "findings": [f.to_dict() for f in self.findings], "unchecked": list(self.unchecked),
        }  # fmt: skip

    def __repr__(self) -> str:
        counts = Counter(f.severity for f in self.findings)
        head = ", ".join(f"{counts[s]} {s}{'s' if counts[s] > 1 else ''}" for s in SEVERITIES if counts[s]) or "nothing"
        lines = [f"<Gotchas of {self.name}{f' engine {self.engine}' if self.engine else ''}: {head}"]
        lines += [f"  {f.severity:8} {f.title}" for f in self.findings]
        lines += [f"  not looked at: {text}" for text in self.unchecked]
        return "\n".join(lines) + ">"


def of_model(
    model: Model, partition: Partition | None = None, unchecked: Sequence[str] = (), profile: ShapeProfile | None = None,
    precision: str = "fp32",
) -> Gotchas:  # fmt: skip
    """What the graph alone proves, with what TensorRT's parser or builder said of it.

    Args:
        model: The model.
        partition: By TensorRT's parser or builder (`session.torch.partition`); None where neither was asked.
        unchecked: What could not be looked at.
        profile: Shapes and values that it is to be built with.
        precision: That it is to be built in; fp32 leaves the graph as it is.
    """
    graph = model.graph
    at = graph if profile is None else graph.at(profile.sizes, profile.usual)
    found = [
        *broken(graph), *(unsupported(partition) if partition else []), *file_size(model), *missing_profiles(graph, profile),
        *shape_inputs(graph, profile), *(full_attention(at) if precision == "fp32" else []), *int32_quantization(graph),
        *zero_points(graph), *branch_ranks(at), *large_constants(graph), *int64_casts(graph), *runtime_shapes(graph),
    ]  # fmt: skip
    return Gotchas(model.name, "", _sorted(found), tuple(unchecked), partition)


def of_engine(
    engine: Engine, *, here: Sequence[Gpu] = (), installed: str | None = None, others: Sequence[Engine] = ()
) -> Gotchas:
    """What an engine's plan, record and measurements prove, and the graph where its file is still there.

    Args:
        engine: The engine.
        here: The GPUs of this machine.
        installed: Version of the compiler that is installed here; None where it is not.
        others: Engines of the same session, for comparisons of what was measured.
    """
    from workbench.core.errors import ModelError, ProfileError

    plan, unchecked = engine.plan, []
    found = [
        *bound_to_gpu(plan, here, installed), *reported_target(plan), *long_build(plan), *precision(plan), *bare_layers(plan),
        *host_shapes(plan),
    ]  # fmt: skip
    try:
        found += dynamic_shapes(engine, others)
    except ProfileError as error:
        unchecked.append(f"what open shapes cost: {error.message}")
    except (KeyError, TypeError) as error:
        unchecked.append(f"what open shapes cost: a profile is not whole: {error}")
    try:
        source = engine.source()
        graph = engine.graph()
        found += [*broken(graph), *file_size(source), *large_constants(graph, plan), *int64_casts(graph, plan)]
    except ModelError as error:
        unchecked.append(f"the graph: {error.message}")
    return Gotchas(engine.model, engine.id, _sorted(found), tuple(unchecked))


def _sorted(found: Iterable[Gotcha]) -> tuple[Gotcha, ...]:
    return tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity)))


# --- of a graph ---------------------------------------------------------------------------------------


def unsupported(partition: Partition) -> list[Gotcha]:
    """Operators that TensorRT does not take, as its parser or its builder says."""
    back = partition.fallbacks
    if not back and not partition.refusals:
        return []
    builder = partition.method == "builder"
    named = not builder or any(r["nodes"] for r in partition.refusals)
    ops = Counter(o.op for o in back if o.reason)
    listed = ", ".join(f"{op}{f' ({n} times)' if n > 1 else ''}" for op, n in ops.most_common(5))
    places = list(dict.fromkeys(_place(o.source) for o in back if o.source.file))
    where = f", from {', '.join(places[:3])}" if places else ""
    sizes = [len(s.operators) for s in partition.segments if s.runs_on == "tensorrt"]
    least = "" if partition.proven else "At least "
    words = f"{least}{len(back)} of {len(partition.operators)} nodes fall back{where}. As one engine the model does not build."
    engines = f"{len(sizes)} engine{'s' if len(sizes) > 1 else ''} of {_and(map(str, sizes))} nodes"
    crossings = (
        f"{partition.crossings} change{'s' if partition.crossings != 1 else ''} between TensorRT and the fallback"
    )
    if not named:
        words = f"The model does not build, and the error names none of its {len(back)} nodes: {partition.refusals[0]['message']}"
    elif not sizes:
        words += " No node is left for TensorRT."
    elif builder and partition.proven:
        words += f" The other {sum(sizes)} nodes were built without them: {engines}, with {crossings} on the way."
    elif builder:
        words += f" Whether the other {sum(sizes)} nodes build without them is not known."
    else:
        words += (
            f" The parser takes the other {sum(sizes)} nodes, for {engines}, with {crossings} on the way; whether they "
            "build, only the builder can say."
        )
    if builder and partition.refusals:
        reasons = " ".join(dict.fromkeys(str(r["message"]).strip() for r in partition.refusals[:3]))
        ways = list(dict.fromkeys(str(r["hint"]) for r in partition.refusals if r["hint"]))
    else:
        reasons, ways = "; ".join(dict.fromkeys(f"{o.op} {o.name}: {o.reason}" for o in back[:5])), []
    todo = " ".join(ways[:3]) or (
        "Replace the operation in the model, write a plugin, or let Torch-TensorRT or ONNX Runtime run it between engines."
    )
    return [
        Gotcha(
            "unsupported", f"TensorRT does not take {listed}" if named else "TensorRT's builder refuses the model", words, "problem",
            f"Reported {_by(partition)}: {reasons}", todo, nodes=tuple(o.name for o in back) if named else (),
        )
    ]  # fmt: skip


_BROKEN: dict[str, tuple[str, Severity, str]] = {
    "nodes-out-of-order": ("Nodes of the file are out of order", "note", "Save it with its nodes sorted: ONNX's checker refuses it as it is."),
    "function-kept": ("A local function is shown as one node", "note", "Export the function and the model for the same opset."),
    "shapes-unknown": ("Shapes of the model are unknown", "note", "Costs and bytes that depend on them are unknown too."),
    "undefined-tensor": ("The model reads a tensor that nothing makes", "problem", "Export the model again: no compiler takes it."),
    "duplicate-tensor": ("A tensor of the model is made more than once", "problem", "Export the model again: ONNX forbids it."),
    "missing-input": ("A node lacks inputs", "problem", "Export the model again: no compiler takes it."),
    "wrong-attribute": ("An attribute is missing or of the wrong type", "problem", "Export the model again: no compiler takes it."),
    "bad-dimension": ("An input or output has an impossible dimension", "problem", "Declare the dimension as a number above 0 or as a name."),
}  # fmt: skip
"""Title, severity and way out for each code of `Graph.problems`."""


def broken(graph: Graph) -> list[Gotcha]:
    """What is wrong with the file itself."""
    found: dict[str, list[Any]] = {}
    for problem in graph.problems:
        found.setdefault(problem.code, []).append(problem)
    out = []
    for code, problems in found.items():
        title, severity, todo = _BROKEN[code]
        more = f" And {len(problems) - 5} more." if len(problems) > 5 else ""
        nodes = tuple(dict.fromkeys(n for p in problems for n in p.nodes))
        words = " ".join(p.text for p in problems[:5]) + more
        out.append(Gotcha(code, title, words, severity, "Read from the model's file.", todo, nodes=nodes))
    return out


def file_size(model: Model) -> list[Gotcha]:
    """An ONNX file near or beyond what one protobuf may hold."""
    inside = model.path.stat().st_size
    if inside < 0.75 * PROTOBUF_LIMIT:
        return []
    over = inside > PROTOBUF_LIMIT
    return [
        Gotcha(
            "protobuf-limit",
            "The ONNX file is larger than one protobuf may be" if over
            else f"The ONNX file is at {inside / PROTOBUF_LIMIT:.0%} of the 2 GB limit",
            "Tools that parse it whole refuse it." if over
            else "A tool that writes it again with more in it, such as shapes or wider weights, may not be able to.",
            "problem" if over else "note", f"{bytes_text(inside)} in {model.path.name}; the limit is {bytes_text(PROTOBUF_LIMIT)} (computed).",
            "Save it with external data: onnx.save(model, path, save_as_external_data=True).",
        )
    ]  # fmt: skip


def missing_profiles(graph: Graph, profile: ShapeProfile | None = None) -> list[Gotcha]:
    """Dynamic inputs without a shape: no engine can be built before their shapes are given."""
    given = set() if profile is None else {*profile.inputs, *profile.values}
    open_inputs = {n: s for n, s in graph.dynamic_inputs.items() if n not in given and n not in graph.shape_inputs}
    if not open_inputs:
        return []
    shown = _and(f"{n} [{', '.join(str(d) if d is not None else '?' for d in s)}]" for n, s in open_inputs.items())
    told = graph.suggestion
    many = len(open_inputs) > 1
    return [
        Gotcha(
            "no-profile", f"{len(open_inputs)} input{'s are' if many else ' is'} dynamic and {'have' if many else 'has'} no shape yet",
            f"{shown}. TensorRT needs a shape, or the smallest, usual and largest one, for each before it builds.",
            "problem", "Read from the model's inputs.",
            told.words,
            nodes=tuple(dict.fromkeys(n.id for i in open_inputs for n in graph.consumers.get(i, []))), shapes=dict(told.texts),
        )
    ]  # fmt: skip


def shape_inputs(graph: Graph, profile: ShapeProfile | None = None) -> list[Gotcha]:
    """Inputs whose values the model reads as a shape: TensorRT wants a range of values for each."""
    from workbench.model.shape_inputs import INTEGERS

    found = []
    for each in graph.shape_inputs.values():
        valued = profile is not None and each.name in profile.values
        readers = [graph.by_id[i] for i in each.readers]
        by = _and(f"{n.op} {n.id}" for n in readers[:3]) + (" and more" if len(readers) > 3 else "")
        shapes: dict[str, str] = {}
        if each.constant:
            title, severity = f"{each.name} is read as axes, which must be constants", "problem"
            words = f"{by} reads its values; TensorRT takes axes only where they are known before it builds."
            todo = f"Make {each.name} a constant of the model."
        elif each.dtype and each.dtype not in INTEGERS:
            title, severity = f"{each.name} is read as a shape and is {each.dtype}", "problem"
            words = f"{by} reads its values as sizes; TensorRT takes INT32 and INT64 for such an input only."
            todo = f"Make {each.name} a constant of the model, or an integer."
        else:
            title, severity = f"{each.name} is read as a shape", "note" if valued else "problem"
            words = (
                f"{by} reads its values as sizes or positions, so TensorRT needs them before it runs: their smallest, usual "
                "and largest, as the engine is built, and the values themselves on the host."
            )
            told = graph.suggestion
            shapes = {} if valued else dict(told.texts)
            todo = (
                f"Make {each.name} a constant of the model where it never changes." if valued else
                f"{told.words} Or make {each.name} a constant of the model."
            )  # fmt: skip
        found.append(
            Gotcha(
                "shape-input", title, words, severity,  # type: ignore[arg-type]
                "Computed: followed from the input through the graph.", todo, nodes=each.readers, shapes=shapes,
            )
        )  # fmt: skip
    return found


def full_attention(graph: Graph) -> list[Gotcha]:
    """Attention of opset 23 in FP32: there is no kernel for it, and there is one in FP16 and BF16."""
    found = []
    for node in graph.nodes:
        if node.op != "Attention" or node.domain not in {"", "ai.onnx"} or node.id not in graph.live:
            continue
        query = graph.tensor(node.inputs[0])
        # One query a step, and three dimensions, were seen to build.
        steps = query.shape[2] if query.shape is not None and len(query.shape) == 4 else None
        if query.dtype == "float32" and isinstance(steps, int) and steps > 1:
            found.append(node)
    if not found:
        return []
    return [
        Gotcha(
            "fp32-attention", f"{_count(len(found), 'Attention node')} in FP32, for which there is no kernel",
            f"{_and(n.id for n in found[:3])}{' and more' if len(found) > 3 else ''}. The parser takes "
            f"{'it' if len(found) == 1 else 'them'}, the builder does not. The same in FP16 and BF16 builds.",
            "problem",
            "Types and shapes read from the graph. Measured: TensorRT for RTX 1.7.1 refused each of 15 FP32 Attention nodes of "
            "4 dimensions with more than one query, and built those that were tried in FP16 and BF16.",
            'precision="fp16" or precision="bf16" (--precision), or export with opset 22 or earlier, which writes MatMul and Softmax.',
            nodes=tuple(n.id for n in found),
        )
    ]  # fmt: skip


def int32_quantization(graph: Graph) -> list[Gotcha]:
    """DequantizeLinear of INT32, as ONNX Runtime's quantizer writes for biases."""
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
        Gotcha(
            "int32-quantization", f"{_count(len(found), 'DequantizeLinear node')} {what}{'reads' if len(found) == 1 else 'read'} INT32",
            f"{_and(n.id for n in found[:3])}{' and more' if len(found) > 3 else ''}. TensorRT dequantizes 8-bit and 4-bit "
            "types only, so the model does not build.",
            "problem",
            "Types read from the graph. TensorRT's own words: input has type Int32 but must have type FP8, FP4, Int4, Int8, or UInt8.",
            "Quantize without biases: in ONNX Runtime extra_options={'QuantizeBias': False, 'ActivationSymmetric': True, "
            "'WeightSymmetric': True}, or with session.precision.quantize, which leaves biases as they are.",
            nodes=tuple(n.id for n in found),
        )
    ]  # fmt: skip


def zero_points(graph: Graph) -> list[Gotcha]:
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
        Gotcha(
            "zero-points", f"{_count(len(found), 'Q/DQ node')} with a zero point other than 0",
            f"{_and(n.id for n in found[:3])}{' and more' if len(found) > 3 else ''}. TensorRT quantizes symmetrically, around 0.",
            "problem", "Zero points read from the graph. TensorRT's own words: Non-zero zero point is not supported.",
            "Quantize symmetrically: in ONNX Runtime activation_type=QuantType.QInt8 and extra_options={'ActivationSymmetric': True, "
            "'WeightSymmetric': True}, or with session.quantize.",
            nodes=tuple(n.id for n in found),
        )
    ]  # fmt: skip


def _small_constants(graph: Graph) -> dict[str, Any]:
    """Values of constants that lie in the graph itself, by tensor."""
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
            ):  # a damaged tensor: `Graph.problems` and the parser say so
                found[name] = numpy_helper.to_array(tensor)
    return found


def branch_ranks(graph: Graph) -> list[Gotcha]:
    """If whose branches give tensors of other ranks, chosen at run time."""
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
        Gotcha(
            "branch-ranks", f"{_count(len(found), 'If node')} whose branches give other ranks",
            f"{_and(f'{i} ({a} and {b} dimensions)' for i, (a, b) in found[:3])}. The parser takes it; the builder refuses it "
            "unless the condition is a constant.",
            "problem",
            "Ranks read from the graph's declared shapes. TensorRT's own words: must have inputs with equal ranks when condition "
            "is not a build-time constant.",
            "Give both branches the same rank (Unsqueeze, Reshape), or fix the condition and export again.",
            nodes=tuple(i for i, _ in found),
        )
    ]  # fmt: skip


def large_constants(graph: Graph, plan: Plan | None = None) -> list[Gotcha]:
    """Constants so large that they decide memory and loading."""
    sizes = {n: graph.tensor(n).bytes or 0 for n in graph.initializers}
    large = sorted((n for n, size in sizes.items() if size >= LARGE_CONSTANT), key=lambda n: -sizes[n])
    if not large:
        return []
    total, sum_large = sum(sizes.values()), sum(sizes[n] for n in large)
    nodes = tuple(dict.fromkeys(node.id for n in large for node in graph.consumers.get(n, [])))
    first = _and(f"{n} {_x(graph.tensor(n).shape)} {bytes_text(sizes[n])}" for n in large[:3])
    more = f" and {len(large) - 3} more" if len(large) > 3 else ""
    return [
        Gotcha(
            "large-constants", f"{len(large)} constant{'s' if len(large) > 1 else ''} of {bytes_text(LARGE_CONSTANT)} or more, {sum_large / total:.0%} of all weights",
            f"{first}{more}. Each lies in the ONNX file, in the engine and in GPU memory.",
            "note", f"Computed from the shapes and types of {len(sizes)} constants, {bytes_text(total)} in all.",
            "Cast or quantize them (an embedding is read a few rows at a time, and need not be FP32), or share one table.",
            layers=_layers(plan, nodes), nodes=nodes,
        )
    ]  # fmt: skip


def int64_casts(graph: Graph, plan: Plan | None = None) -> list[Gotcha]:
    """Casts to or from INT64 of tensors that are not known before an input arrives."""
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
    layers = _layers(plan, tuple(n.id for n in casts))
    text = f"{_and(f'{n.id} ({graph.tensor(n.inputs[0]).dtype} to {graph.tensor(n.outputs[0]).dtype})' for n in casts[:3])}"
    text += f" and {len(casts) - 3} more." if len(casts) > 3 else "."
    if plan is not None:
        own = [la for la in plan.layers if la.id in set(layers) and la.kind in CONVERSIONS]
        text += (
            f" {_count(len(own), 'kernel')} of {'its' if len(own) == 1 else 'their'} own among them."
            if own
            else " None is a kernel of its own."
        )
    return [
        Gotcha(
            "int64-casts", f"{len(casts)} cast{'s' if len(casts) > 1 else ''} to or from INT64 at run time", text, "note",
            "Read from the graph's types." + (" Kernels: reported by the compiler." if plan is not None else ""),
            f"Give the model INT32 inputs; {_and(inputs)} {'is' if len(inputs) == 1 else 'are'} cast at once." if fed
            else "Keep indices and masks in one type from where they are made.",
            layers=layers, nodes=tuple(n.id for n in casts),
        )
    ]  # fmt: skip


def runtime_shapes(graph: Graph) -> list[Gotcha]:
    """Shape arithmetic that can't be folded, because an input is dynamic or a shape depends on data."""
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
            Gotcha(
                "data-dependent-shapes", f"{len(data)} node{'s' if len(data) > 1 else ''} make{'' if len(data) > 1 else 's'} a shape that depends on values",
                f"{_and(f'{n.op} {n.id}' for n in data[:3])}. How large its output is, is known only after it ran; memory is kept for the worst case.",
                "cost", "Read from the graph's operators.", "Use a mask of fixed size (where) in place of picking elements.",
                nodes=tuple(n.id for n in data),
            )
        )  # fmt: skip
    if asked:
        found.append(
            Gotcha(
                "runtime-shapes", f"{len(asked)} shape{'s are' if len(asked) > 1 else ' is'} asked for at run time",
                f"{_and(f'{n.op} {n.id}' for n in asked[:3])}{' and more' if len(asked) > 3 else ''}: their tensors are dynamic, so nothing behind them can be folded before the shapes are known.",
                "note", "Computed: none of these shapes follows from constants at the declared shapes.",
                "Build with fixed shapes where they never change; then this arithmetic disappears.",
                nodes=tuple(n.id for n in asked),
            )
        )  # fmt: skip
    return found


# --- of an engine -------------------------------------------------------------------------------------


def reported_target(plan: Plan) -> list[Gotcha]:
    """An engine of TensorRT for RTX for a target of which users report that engines do not run well."""
    compiler = find(str(plan.compiler.get("name")), Diagnoses)
    if compiler is None:
        return []
    return [
        Gotcha(
            "target-reports", f"Users report wrong results and crashes on {target}", issue, "note",
            "Reported by users of TensorRT for RTX; not tried here.",
            f"Measure the engine on such a GPU: session.measure.profile compares its outputs with ONNX Runtime. Or build for another than {target}.",
        )
        for target, issue in compiler.known_issues(plan.compiler).items()
    ]  # fmt: skip


def bound_to_gpu(plan: Plan, here: Sequence[Gpu], installed: str | None) -> list[Gotcha]:
    """What the engine was built for, beside what is here. Always a finding: engine files are not portable."""
    built = plan.compiler
    name, version, target = (str(built.get(k) or "") for k in ("name", "version", "target"))
    compiler = find(name, Diagnoses)
    if compiler is None or not target:
        return []
    gpu = built.get("gpu")
    built_for = f"{gpu['name']} ({gpu['sm']})" if isinstance(gpu, Mapping) else target.replace("+", ", ")
    targets = [str(gpu["sm"])] if isinstance(gpu, Mapping) else target.split("+")
    portable = plan.config.get("hardware_compatibility")
    words = f"It was built for {built_for} by {name} {version}" + (
        f", hardware compatible ({portable})." if portable else "."
    )
    later = [g for g in here if g.sm not in targets and compiler.runs_on(g.sm, built, plan.config) is not False]
    others = [g for g in here if g.sm not in targets and g not in later]
    severity: Severity = "note"
    if not here:
        words += " There is no NVIDIA GPU here, so it can't run on this machine."
    elif len(others) == len(here):
        words += f" Here there is {_and(f'{g.name} ({g.sm})' for g in here)}: it does not run on it."
        severity = "problem"
    else:
        words += f" Here there is {_and(f'{g.name} ({g.sm})' for g in here)}."
        if later and len(others) + len(later) == len(here):
            words += " It runs there, on a later GPU than it was tuned for."
    if installed and installed != version and not plan.config.get("version_compatible"):
        words += f" {name} {installed} is installed here; an engine is read by the version that wrote it."
        severity = "problem"
    title = f"The engine belongs to {built_for} and {name} {version}"
    if severity == "problem":
        title += ", which this machine does not have"
    return [
        Gotcha(
            "bound-to-gpu", title, words, severity, "Reported by the compiler; this machine's GPUs by its driver.",
            "Keep the ONNX model and build again on each kind of GPU" + (f': session.build({str(plan.model["name"])!r}, target="current").' if severity == "problem" else "; the cache finds what was built."),
        )
    ]  # fmt: skip


def long_build(plan: Plan, limit: float = LONG_BUILD) -> list[Gotcha]:
    """A build that took long, with the phases that took it."""
    total = plan.seconds.get("total", 0.0)
    if total < limit:
        return []
    seconds = plan.seconds
    taken = [("load", seconds.get("load")), ("parse", seconds.get("parse")), ("build", seconds.get("build"))]
    steps = sorted(((k, v) for k, v in taken if v is not None), key=lambda item: -item[1])
    phases = sorted(((k, float(v)) for k, v in plan.facts.get("phases", {}).items()), key=lambda item: -item[1])
    text = f"{_and(f'{k} {v:.1f} s' for k, v in steps)}."
    if phases:
        text += f" Of the build: {_and(f'{k} {v:.1f} s' for k, v in phases[:3])}."
    return [
        Gotcha(
            "long-build", f"The build took {total:.0f} s", text, "cost",
            "Measured while it was built" + ("; phases reported by the compiler." if phases else "."),
            f"Asked for again with the same options, the engine comes from the cache and the {total:.0f} s are saved. "
            "A lower optimization_level builds sooner.",
        )
    ]  # fmt: skip


_PRECISION = {
    "fp32-product": "{n} in FP32 although {asked} was asked for",
    "wide-output": "{n} that read{s} {asked} and store{s} FP32",
    "double-requantization": "{n} that quantize{s}, dequantize{s} and quantize{s} again",
    "conversion-kernel": "{n} that only change{s} the type",
    "weights-dequantized": "{n} that widen{s} stored weights at run time",
    "fp32-pointwise": "{n} in FP32 although {asked} was asked for, beside the products",
}
"""Titles of the kinds of `workbench.precision.audit`."""


def precision(plan: Plan) -> list[Gotcha]:
    """Layers that do not have the precision that was asked for; see `workbench.precision.audit`."""
    from workbench.precision.audit import HEAVY, audit

    found = []
    seen = audit(plan)
    for finding in seen.findings:
        layers = [plan.by_id[i] for i in finding.layers]
        # A product in FP32 loses the speed that was asked for; the others cost bytes.
        severity: Severity = "problem" if finding.kind == "fp32-product" else "cost"
        saves = "that FP16 would save" if finding.kind == "wide-output" else "moved"
        known = finding.bytes or all(la.bytes is not None for la in layers)
        size = f"{bytes_text(finding.bytes)} {saves} (computed)" if known else "bytes are not known, shapes are open"
        noun = "product" if all(la.kind in HEAVY for la in layers) else "kernel"
        found.append(
            Gotcha(
                f"precision-{finding.kind}", _PRECISION[finding.kind].format(n=_count(len(layers), noun), asked=seen.asked, s="s" if len(layers) == 1 else ""),
                f"{_and(_name(la) for la in layers[:3])}{f' and {len(layers) - 3} more' if len(layers) > 3 else ''}.",
                severity,
                f"Types reported by the compiler; {size}.",
                finding.hint, layers=finding.layers, nodes=tuple(dict.fromkeys(n for la in layers for n in la.nodes)),
            )
        )  # fmt: skip
    return found


def bare_layers(plan: Plan) -> list[Gotcha]:
    """Kernels that own no node: copies between layouts and types, and others of which the compiler names no node."""
    bare = [la for la in plan.layers if la.launches and not la.nodes]
    copies = [la for la in bare if la.kind in CONVERSIONS]
    others = [la for la in bare if la.kind not in CONVERSIONS]
    total = sum(la.bytes or 0 for la in plan.layers if la.launches)

    def moved(layers: Sequence[Layer]) -> tuple[str, str]:
        """Their bytes, "at least" where some are not known, and how that is known."""
        known = [la.bytes for la in layers if la.bytes is not None]
        unknown = len(layers) - len(known)
        if not known:
            return "unknown size", "their tensors have open shapes, so bytes are not known"
        size = sum(known)
        text = f"{bytes_text(size)} computed from their tensors" + (f", {size / total:.1%} of all" if total else "")
        told = f"{'at least ' if unknown else ''}{bytes_text(size)}"
        return told, text + (f"; of {unknown} the size is not known" if unknown else "")

    def took(layers: Sequence[Layer]) -> str:
        times = [la.time_ms for la in layers if la.time_ms is not None]
        return f" They take {sum(times):.4f} ms (measured)." if times else ""

    found = []
    if copies:
        size, evidence = moved(copies)
        found.append(
            Gotcha(
                "layout-copies", f"{_count(len(copies), 'kernel')} that no node asked for: copies of {size}",
                f"{_and(f'{n} {kind}' for kind, n in Counter(la.kind for la in copies).most_common())}. The compiler put "
                f"{'it' if len(copies) == 1 else 'them'} in to change the layout or type.{took(copies)}",
                "cost", f"Layers reported by the compiler; {evidence}.",
                "Look at the neighbours: an input in the layout or type that the first kernel wants saves the copy.",
                layers=tuple(la.id for la in copies),
            )
        )  # fmt: skip
    if others:
        _size, evidence = moved(others)
        found.append(
            Gotcha(
                "layers-without-nodes", f"{_count(len(others), 'kernel')} of which the compiler names no node",
                f"{_and(f'{n} {kind}' for kind, n in Counter(la.kind for la in others).most_common())}. What they compute "
                f"is part of the model, but from which lines can't be told.{took(others)}",
                "note", f"Layers reported by the compiler; {evidence}.",
                "Look at the layers before and after them in the fusion map.",
                layers=tuple(la.id for la in others),
            )
        )  # fmt: skip
    return found


def host_shapes(plan: Plan) -> list[Gotcha]:
    """Layers that compute shapes on the host between kernels."""
    found = [la for la in plan.layers if la.kind == "shape"]
    if not found:
        return []
    return [
        Gotcha(
            "host-shapes", f"{len(found)} layer{'s' if len(found) > 1 else ''} compute{'' if len(found) > 1 else 's'} shapes on the host",
            f"{_and(_name(la) for la in found[:3])}{' and more' if len(found) > 3 else ''}. Kernels that need the shape wait for it.",
            "note", "Reported by the compiler.", "Build with fixed shapes where they never change.",
            layers=tuple(la.id for la in found), nodes=tuple(dict.fromkeys(n for la in found for n in la.nodes)),
        )
    ]  # fmt: skip


def dynamic_shapes(engine: Engine, others: Sequence[Engine] = ()) -> list[Gotcha]:
    """An engine with open shapes: what that costs where it was measured, else how to measure it.

    Measured means: a fixed engine of the same model, compiler, target and precision was profiled at the shape at
    which this one was.
    """
    profiles = engine.config.profiles
    texts = {n: str(r) for p in profiles for n, r in p.inputs.items() if not r.fixed}
    texts |= {n: str(v) for p in profiles for n, v in p.values.items() if not v.fixed}
    if not texts:
        return []
    shown = _and(f"{n} {text}" for n, text in texts.items())
    opt = {n: text.split(":")[1] for n, text in texts.items()}
    kept = {k: getattr(engine.config, k) for k in ("compiler", "targets", "precision")}
    mine = engine.profile
    for other in reversed(others):
        theirs = other.profile if other.key != engine.key and other.model == engine.model else None
        same = {k: getattr(other.config, k) for k in kept} == kept
        fixed = all(p.fixed for p in other.config.profiles)
        if mine is None or theirs is None or not same or not fixed or theirs["shapes"] != mine["shapes"]:
            continue
        way = "graph" if "graph" in mine["latency"] and "graph" in theirs["latency"] else "plain"
        a, b = mine["latency"][way]["median_ms"], theirs["latency"][way]["median_ms"]
        return [
            Gotcha(
                "dynamic-shapes", f"Open shapes cost {(a / b - 1):+.0%} at {_and(f'{n} {_x(s)}' for n, s in mine['shapes'].items())}",
                f"Open for {shown}: {a:.3f} ms. Fixed: {b:.3f} ms (engine {other.id}).", "cost" if a > 1.05 * b else "note",
                f"Measured on {mine['device'].get('name', 'this GPU')}: medians, {way} executions of both engines.",
                "Keep a fixed engine for the shape that matters most, or several shape profiles.",
            )
        ]  # fmt: skip
    asked = {n: text for p in profiles for n, text in p.texts.items()}
    call = f"session.measure.dynamic({engine.model!r}, target={engine.config.target!r}, precision={engine.config.precision!r}, shapes={asked!r})"
    return [
        Gotcha(
            "dynamic-shapes", f"Shapes are open; kernels were chosen for {_and(f'{n} {s}' for n, s in opt.items())}",
            f"{shown}. Other shapes run with the same kernels, and memory is kept for the largest. What that costs was not measured yet.",
            "note", "Read from the engine's shape profiles.",
            f"To measure it, on a GPU: {call}.",
        )
    ]  # fmt: skip


# --- words --------------------------------------------------------------------------------------------


def _layers(plan: Plan | None, nodes: Iterable[str]) -> tuple[str, ...]:
    return () if plan is None else tuple(dict.fromkeys(la.id for n in nodes for la in plan.layers_of.get(n, ())))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' if n != 1 else ''}"


def _name(layer: Layer) -> str:
    return layer.nodes[0] if layer.nodes else layer.title


def _place(source: Source) -> str:
    return f"{Path(source.file).name}:{source.line}"


def _by(partition: Partition) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in partition.versions.items())
    return f"{partition.how} ({versions})"


def _x(shape: Sequence[Any] | None) -> str:
    return "×".join(str(d) for d in shape or ())


def _and(parts: Iterable[str]) -> str:
    found = list(parts)
    return found[0] if len(found) == 1 else ", ".join(found[:-1]) + " and " + found[-1] if found else ""
