"""Concrete shapes of a plan's tensors.

With dynamic inputs, a compiler reports -1 for each open dimension. The sizes come from the model at its opt shapes: what
a layer reads or writes is a tensor on the border of the layer's nodes, perhaps merged, transposed, or sliced. The model
at a second set of shapes shows which dimensions of that tensor are open. A size is used only if it is the only one that
fits; otherwise it stays unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from workbench.core.dtypes import BITS
from workbench.core.errors import ConfigError
from workbench.model.graph import Graph
from workbench.model.node import Node, nbytes
from workbench.plan.flow import RECURRENT
from workbench.plan.plan import PlanTensor

if TYPE_CHECKING:
    from workbench.plan.record import LayerRecord, Record, TensorRecord
    from workbench.plan.vocabulary import Vocabulary

Shape = tuple[int, ...]

_SUFFIX = re.compile(r"_myl\d+$|\.\d+$|_\d+$|_before_shuffle$")
_MOST = 12
"""Maximum number of dimensions for which a grouping is searched."""


@dataclass(frozen=True, slots=True)
class _Sized:
    """A tensor of the model: its shape at the opt shapes, and which dimensions change with the inputs.

    If `known` is False, the open dimensions are not known, and every entry of `open` is True.
    """

    shape: Shape
    open: tuple[bool, ...]
    known: bool = True

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class _Side:
    """A layer that writes or reads a tensor; `operand` is the model's tensor, if the position determines it."""

    nodes: list[Node]
    writes: bool
    operand: str | None


@dataclass(frozen=True, slots=True)
class _Fit:
    """A way in which a reported shape can be a tensor of the model; `shapes` is empty if only the size is known."""

    elements: int
    shapes: tuple[Shape, ...]
    strength: int


_EXACT, _AGREES, _MERGED, _DIVIDED = range(4)
"""Same dimensions with the same ones open, or with others open; neighbors merged; only the number of elements fits."""


class Sizes:
    """Looks up the concrete shape of what a compiler reports with open dimensions.

    Args:
        graph: The model at its opt shapes.
        record: The compiler's record of the build.
        claims: Ids of the nodes of each layer of the record.
        vocabulary: The meaning of the compiler's names.
    """

    def __init__(self, graph: Graph, record: Record, claims: Sequence[tuple[str, ...]], vocabulary: Vocabulary) -> None:
        self._graph = graph
        self._record = record
        self._sides: dict[tuple[str, Shape], list[_Side]] = {}
        self._moved: dict[tuple[str, Shape], list[tuple[str, Shape]]] = {}
        self._views: dict[str, dict[Shape, None]] = {}
        for raw, nodes in zip(record["layers"], claims, strict=True):
            mine = [graph.by_id[n] for n in nodes]
            if len(raw["inputs"]) == len(raw["outputs"]) == 1 and vocabulary.keeps_elements(raw):
                ends = [(t["name"], tuple(t["shape"])) for t in (raw["inputs"][0], raw["outputs"][0])]
                for this, other in (ends, ends[::-1]):
                    self._moved.setdefault(this, []).append(other)
            operands = _operands(graph, raw, mine)
            for tensors, writes in (((*raw["inputs"], *raw.get("constants", [])), False), (raw["outputs"], True)):
                for k, t in enumerate(tensors):
                    if -1 in t["shape"]:
                        self._views.setdefault(t["name"], {})[tuple(t["shape"])] = None
                        operand = operands[k] if operands and not writes and k < len(operands) else None
                        side = _Side(mine, writes, operand)
                        self._sides.setdefault((t["name"], tuple(t["shape"])), []).append(side)
        opts = {entry["name"]: tuple(entry["profiles"][0]["opt"]) for entry in record["io"] if entry.get("profiles")}
        known = {n: s for n in [*graph.inputs, *graph.outputs] if (s := _known(graph, n)) is not None}
        self._io: dict[str, Shape] = {**known, **opts}
        self._cache: dict[str, _Sized | None] = {}
        self._found: dict[tuple[str, Shape], tuple[Shape | None, int | None]] = {}

    def tensor(self, raw: TensorRecord) -> PlanTensor:
        """The tensor with its shape and bytes; None if they are not known."""
        reported = tuple(raw["shape"])
        dynamic = -1 in reported
        shape: Shape | None = reported
        elements: int | None = None
        if dynamic:
            key = (raw["name"], reported)
            if key not in self._found:
                self._found[key] = self._concrete(*key)
            shape, elements = self._found[key]
        size = nbytes(shape, raw["dtype"])
        if size is None and elements is not None and raw["dtype"] in BITS:
            size = nbytes((elements,), raw["dtype"])
        strides = raw.get("strides")
        return PlanTensor(
            name=raw["name"], shape=shape, dtype=raw["dtype"], format=raw.get("format", ""),
            strides=None if strides is None or dynamic else tuple(strides), bytes=size, dynamic=dynamic,
        )  # fmt: skip

    # --- which tensor of the model it is ------------------------------------------------------------

    def _concrete(self, name: str, reported: Shape) -> tuple[Shape | None, int | None]:
        """Shape and number of elements; the shape alone may be unknown."""
        if name in self._io and _agree(reported, self._io[name]):
            return self._io[name], math.prod(self._io[name])
        if found := self._by_nodes(name, reported):
            return found
        sizes = {self._elsewhere(*other) for other in self._moved.get((name, reported), ())} - {None}
        if len(sizes) == 1 and (elements := sizes.pop()) is not None:
            return _one_open(reported, elements), elements
        # The same tensor in another view, if its writer or reader names nodes.
        fixed = math.prod(d for d in reported if d != -1)
        views = {
            found[1]
            for other in self._views.get(name, ())
            if other != reported and math.prod(d for d in other if d != -1) == fixed
            and (found := self._by_nodes(name, other))
        }  # fmt: skip
        if len(views) == 1 and (elements := views.pop()) is not None:
            return _one_open(reported, elements), elements
        # A part of a tensor, sliced along a dimension that is not open.
        cut = {
            tuple(whole if r == -1 else r for r, whole in zip(reported, found[0], strict=True))
            for other in self._views.get(name, ())
            if other != reported and [d == -1 for d in other] == [d == -1 for d in reported]
            and (found := self._by_nodes(name, other)) and found[0] is not None
        }  # fmt: skip
        if len(cut) == 1:
            shape = cut.pop()
            return shape, math.prod(shape)
        return self._batched(name, reported)

    def _elsewhere(self, name: str, reported: Shape) -> int | None:
        """Elements at the other end of a kernel that only moves data."""
        if -1 not in reported:
            return math.prod(reported)
        found = self._by_nodes(name, reported)
        return found[1] if found else None

    def _by_nodes(self, name: str, reported: Shape) -> tuple[Shape | None, int | None] | None:
        sides = self._sides.get((name, reported), [])
        written, read = ({n.id for s in sides if s.writes == w for n in s.nodes} for w in (True, False))
        # A tensor between the parts of a node may not be in the model: for example, the means of a normalization.
        means = [m for name in sorted(written & read) for m in self._means(self._graph.by_id[name])]
        weakest = _DIVIDED
        if written & read and math.prod(d for d in reported if d != -1) == 1:
            if means and (found := self._only([means], reported, weakest)):
                return found
            weakest = _MERGED
        for border in (self._outer, self._all):
            candidates = [
                [*border(s.nodes, s.writes), *means, *self._rows(s, reported)]
                if s.operand is None
                else self._sized([s.operand])
                for s in sides
                if s.nodes
            ]
            if found := self._only(candidates, reported, weakest):
                return found
            # Names are a hint, not evidence: a copy may be named after a tensor that is computed from it.
            if (named := self._named(name)) and (found := self._only([*candidates, named], reported, weakest)):
                return found
        return None

    def _only(
        self, sides: Sequence[Iterable[_Sized]], reported: Shape, weakest: int
    ) -> tuple[Shape | None, int | None] | None:
        """The size on which all sides agree, without sides that know none; None if there is not exactly one."""
        found = [[fit for t in side if (fit := _fit(t, reported)) is not None] for side in sides]
        fits = [side for side in found if side]
        for strength in range(weakest + 1):
            counts = [c for side in fits if (c := {f.elements for f in side if f.strength <= strength})]
            if not counts:
                continue  # a weaker match counts only if no side has a stronger one
            common = set.intersection(*counts)
            if len(common) != 1:
                return None
            elements = common.pop()
            shapes = {shape for side in fits for f in side if f.elements == elements for shape in f.shapes}
            return (shapes.pop() if len(shapes) == 1 else None), elements
        return None

    def _named(self, name: str) -> list[_Sized]:
        """The model's tensor that the compiler's name refers to: ``add_255.1_myl0`` is ``add_255``."""
        while name not in self._graph.tensors:
            shorter = _SUFFIX.sub("", name)
            if shorter == name:
                return []
            name = shorter
        return self._sized([name])

    def _outer(self, nodes: Sequence[Node], writes: bool) -> list[_Sized]:
        """Tensors that leave the nodes, or enter them."""
        made = {t for node in nodes for t in node.outputs if t}
        if not writes:
            given = [t for node in nodes for t in node.inputs if t and t not in made | self._graph.constants]
            return self._sized(given) + self._steps(nodes)
        mine = {node.id for node in nodes}
        return self._sized(
            t for t in made
            if t in self._graph.outputs or any(c.id not in mine for c in self._graph.consumers.get(t, ()))
        ) + self._side_by_side(nodes) + self._steps(nodes)  # fmt: skip

    def _all(self, nodes: Sequence[Node], writes: bool) -> list[_Sized]:
        if writes:
            return self._sized(t for node in nodes for t in node.outputs if t) + self._side_by_side(nodes)
        return self._sized(t for node in nodes for t in node.inputs if t and t not in self._graph.initializers)

    def _rows(self, side: _Side, reported: Shape) -> list[_Sized]:
        """The part of a tensor that a reader takes, if the layer before sliced it."""
        takes = [n for n in side.nodes if n.op in {"Gather", "Slice"}] if not side.writes else []
        return self._sized(
            n.outputs[0] for n in takes if any(_is_slice(reported, whole) for whole in self._sized(n.inputs[:1]))
        )

    def _means(self, node: Node) -> list[_Sized]:
        """The divisor of a normalization, a softmax, or a reduction: its data with the axes reduced to 1."""
        data = self._sized(node.inputs[:1])
        if not data or not data[0].shape:
            return []
        rank = len(data[0].shape)
        if node.op in {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"}:
            axes = range(int(node.attribute("axis", -1)) % rank, rank)
        elif node.op in {"InstanceNormalization", "GroupNormalization"}:
            axes = range(2, rank)
        elif node.op in {"Softmax", "LogSoftmax", "ReduceMean", "ReduceSum"}:
            last = node.attribute("axis", -1)
            axes = range(int(last) % rank, int(last) % rank + 1)
        else:
            return []
        shape = tuple(1 if k in axes else d for k, d in enumerate(data[0].shape))
        return [_Sized(shape, tuple(o and k not in axes for k, o in enumerate(data[0].open)), data[0].known)]

    def _steps(self, nodes: Sequence[Node]) -> list[_Sized]:
        """The inner tensors of a recurrence: states, inputs, and gates of one step, and the gates of all steps."""
        out = []
        for node in nodes:
            if node.op not in RECURRENT:
                continue
            data, recurrent = self._sized(node.inputs[:1]), self._sized(node.inputs[2:3])
            if not data or not recurrent or len(data[0].shape) != 3 or len(recurrent[0].shape) != 3:
                continue
            (length, batch, width), (_, open_batch, _) = data[0].shape, data[0].open
            directions, _, hidden = recurrent[0].shape
            gates = [hidden * k for k in range(1, 5)]
            for count in {1, directions}:
                out += [_Sized((count, batch, size), (False, open_batch, False)) for size in (*gates, width)]
            out += [_Sized((length * batch, size), (True, False)) for size in (*gates, width)]
        return out

    def _side_by_side(self, nodes: Sequence[Node]) -> list[_Sized]:
        """The output of merged products of the same data: their columns next to each other."""
        out = []
        for group in siblings(nodes, self._graph):
            parts = self._sized(node.outputs[0] for node in group)
            axis = 1 if group[0].op == "Conv" else -1
            if len(parts) == len({n.outputs[0] for n in group}) and all(len(p.shape) > 1 for p in parts):
                shape = list(parts[0].shape)
                shape[axis] = sum(p.shape[axis] for p in parts)
                out.append(_Sized(tuple(shape), parts[0].open))
        return out

    def _sized(self, names: Iterable[str]) -> list[_Sized]:
        out = []
        for name in dict.fromkeys(names):
            if name not in self._cache:
                shape = _known(self._graph, name)
                other = _known(self._other, name) if self._other is not None else None
                if shape is not None:
                    if other is not None and len(other) == len(shape):
                        self._cache[name] = _Sized(shape, tuple(a != b for a, b in zip(shape, other, strict=True)))
                    else:
                        self._cache[name] = _Sized(shape, (True,) * len(shape), known=False)
                else:
                    self._cache[name] = None
            if (sized := self._cache[name]) is not None:
                out.append(sized)
        return out

    @cached_property
    def _other(self) -> Graph | None:
        """The model at other sizes of the open dimensions: a profile's max, or its min if max equals opt."""
        shapes: dict[str, Shape] = {}
        for entry in self._record["io"]:
            if entry.get("mode") == "input" and entry["name"] in self._graph.inputs and entry.get("profiles"):
                span = entry["profiles"][0]
                ends = zip(span["min"], span["opt"], span["max"], strict=True)
                shapes[entry["name"]] = tuple(low if opt == high else high for low, opt, high in ends)
        return _at_other(self._graph, shapes) if shapes else None

    @cached_property
    def _batch(self) -> int | None:
        """The size of the open dimension, if the inputs have only one (a batch)."""
        values = {
            actual
            for entry in self._record["io"]
            if entry["name"] in self._graph.inputs and entry["name"] in self._io
            for declared, actual in zip(entry["shape"], self._io[entry["name"]], strict=False)
            if declared == -1
        }
        return values.pop() if len(values) == 1 else None

    def _batched(self, name: str, reported: Shape) -> tuple[Shape | None, int | None]:
        """The one open dimension is the batch, if nothing else is open and no node contradicts it.

        In a matrix it may be the batch times a length.
        """
        nodes = any(side.nodes for side in self._sides.get((name, reported), ()))
        if reported.count(-1) == 1 and self._batch is not None and not nodes and len(reported) > 2:
            filled = tuple(self._batch if d == -1 else d for d in reported)
            return filled, math.prod(filled)
        return None, None


def _operands(graph: Graph, raw: LayerRecord, nodes: Sequence[Node]) -> tuple[str, ...] | None:
    """The model's tensors that a plain product of two activations reads, in the order of its inputs."""
    if raw["type"] != "gemm" or len(nodes) != 1 or nodes[0].op != "MatMul" or len(raw["inputs"]) != 2:
        return None
    return None if graph.constants.intersection(nodes[0].inputs) else nodes[0].inputs


def siblings(nodes: Iterable[Node], graph: Graph) -> list[list[Node]]:
    """Groups of nodes that apply the same heavy operation to the same data with different weights."""
    groups: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        if (
            node.op in {"MatMul", "Gemm", "Conv", "ConvTranspose"}
            and node.inputs
            and node.inputs[0] not in graph.constants
        ):
            groups.setdefault((node.op, node.inputs[0]), []).append(node)
    return [group for group in groups.values() if len(group) > 1]


def _known(graph: Graph, name: str) -> Shape | None:
    tensor = graph.tensor(name)
    if tensor.shape is None or tensor.elements is None:
        return None
    return tuple(d for d in tensor.shape if isinstance(d, int))


def _at_other(graph: Graph, shapes: Mapping[str, Shape]) -> Graph | None:
    """`graph` with its inputs at `shapes`, independent of the shapes that they have now."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    for value in model.graph.input:
        if value.name in shapes:
            for dim in value.type.tensor_type.shape.dim:
                dim.Clear()
    try:
        return Graph(model).at(shapes)
    except ConfigError:
        return None


def _agree(reported: Shape, actual: Shape) -> bool:
    return len(reported) == len(actual) and all(r in (-1, a) for r, a in zip(reported, actual, strict=True))


def _fit(sized: _Sized, reported: Shape) -> _Fit | None:
    """How the reported shape can be this tensor; None if it can't."""
    if (found := _fit_whole(sized, reported)) is not None:
        return found
    for k, size in enumerate(reported):  # an odd dimension padded to the next even one, and others merged
        if size > 2 and size % 2 == 0:
            found = _fit_whole(sized, (*reported[:k], size - 1, *reported[k + 1 :]))
            if found is not None and (found.strength <= _MERGED or not sized.known):
                shapes = tuple((*s[:k], size, *s[k + 1 :]) for s in found.shapes)
                return _Fit(found.elements // (size - 1) * size, shapes, _DIVIDED)
    return None


def _fit_whole(sized: _Sized, reported: Shape) -> _Fit | None:
    if _agree(reported, sized.shape):
        same = sized.known and all((r == -1) == is_open for r, is_open in zip(reported, sized.open, strict=True))
        return _Fit(sized.elements, (sized.shape,), _EXACT if same else _AGREES)
    if (padded := _padded(reported, sized)) is not None:
        return _Fit(math.prod(padded), (padded,), _AGREES)
    fixed = math.prod(d for d in reported if d != -1)
    static = [d for d, is_open in zip(sized.shape, sized.open, strict=True) if d != 1 and not (is_open and sized.known)]
    if not fixed or math.prod(static) % fixed or not any(sized.open):
        return None
    grouped = tuple(dict.fromkeys(_groupings(reported, sized)))
    places = reported.count(-1)
    reduced = reported[-1] == 1 and sized.shape[-1:] == (1,)  # the last axis was reduced in both
    if grouped and (fixed > 1 or not static or reduced or (sized.known and 1 < places == sum(sized.open))):
        return _Fit(sized.elements, grouped, _MERGED if sized.known else _DIVIDED)
    if _is_slice(reported, sized):
        return None
    if not grouped and (fixed == 1 or not _part(static, fixed)):
        return None  # none of its fixed dimensions remains, or they would have to be split
    filled = _one_open(reported, sized.elements)
    return _Fit(sized.elements, grouped or (() if filled is None else (filled,)), _DIVIDED)


def _padded(reported: Shape, sized: _Sized) -> Shape | None:
    """The shape with one dimension padded: an odd one to the next even one, or an image's few channels."""
    missing = len(reported) - len(sized.shape)  # a 1-D signal may be an image of width 1
    if missing not in {0, 1} or not sized.known:
        return None
    actual, is_open = (*sized.shape, *([1] * missing)), (*sized.open, *([False] * missing))
    differ = [k for k, (r, a) in enumerate(zip(reported, actual, strict=True)) if r not in (-1, a)]
    if len(differ) != 1 or is_open[differ[0]]:
        return None
    more, before = reported[differ[0]], actual[differ[0]]
    image = differ[0] == 1 and len(sized.shape) > 2 and before < more < before + 8 and more % 2 == 0
    if not image and not (before % 2 and more == before + 1):
        return None
    return tuple(r if k == differ[0] else a for k, (r, a) in enumerate(zip(reported, actual, strict=True)))


def _one_open(reported: Shape, elements: int) -> Shape | None:
    """The reported shape with its one open dimension filled in; None if there are more."""
    fixed = math.prod(d for d in reported if d != -1)
    if reported.count(-1) != 1 or not fixed or elements % fixed:
        return None
    return tuple(elements // fixed if d == -1 else d for d in reported)


def _is_slice(reported: Shape, sized: _Sized) -> bool:
    """Whether it is the tensor except for a fixed dimension of 1: then it is a row of it and not a permutation."""
    if len(reported) != len(sized.shape) or not sized.known:
        return False
    rows = zip(reported, sized.shape, sized.open, strict=True)
    differ = [(r, is_open) for r, a, is_open in rows if r != a and not (r == -1 and is_open)]
    return bool(differ) and all(r == 1 and not is_open for r, is_open in differ)


def _part(sizes: Sequence[int], product: int) -> bool:
    """Whether a subset of `sizes` has this product."""
    reached = {1}
    for size in sizes:
        reached |= {r * size for r in reached}
    return product in reached


def _groupings(reported: Shape, sized: _Sized) -> list[Shape]:
    """The shapes of `sized` with neighboring dimensions merged to match the reported shape.

    An open dimension of the report contains at least one open dimension; a fixed one contains none.
    """
    dims = [(d, is_open) for d, is_open in zip(sized.shape, sized.open, strict=True) if d != 1 or is_open]
    strict = sized.known
    if len(dims) > _MOST:
        return []

    def fill(k: int, at: int) -> list[Shape]:
        if k == len(reported):
            return [()] if at == len(dims) else []
        out: list[Shape] = []
        size, seen = 1, False
        want = reported[k]
        if want == 1:
            out += [(1, *rest) for rest in fill(k + 1, at)]
        for end in range(at + 1, len(dims) + 1):
            size, seen = size * dims[end - 1][0], seen or dims[end - 1][1]
            if (want == -1 and seen) or (want != 1 and want == size and not (seen and strict)):
                out += [(size, *rest) for rest in fill(k + 1, end)]
        return out

    return fill(0, 0)
