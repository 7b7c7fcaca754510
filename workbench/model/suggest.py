"""Suggests shapes and values for the open inputs of a model, by name and by use, and tries them in shape inference.

They are a start, and only a build shows whether they work. Images get 224 pixels per side, sequences 128 steps, and the
batch is 1. Channels and features come from the first weights that read the input.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.core.errors import ConfigError
from workbench.model.shape_inputs import INTEGERS

if TYPE_CHECKING:
    from workbench.model.graph import Graph
    from workbench.model.node import Dim, Node, Tensor

IMAGE, SEQUENCE, FRAMES = 224, 128, 16
"""Pixels per side, steps of a sequence, and frames of a video that are suggested first."""

OTHERS = {IMAGE: (256, 512, 640, 32), SEQUENCE: (64, 16, 8, 1), FRAMES: (8, 32)}
"""Sizes that are tried if the first size contradicts the graph."""

TRIES = 8
"""Maximum number of sets of sizes that are tried: each costs one shape inference."""

_SAME = frozenset(
    {"Add", "Cast", "Clip", "DequantizeLinear", "Div", "Identity", "Mul", "Pad", "QuantizeLinear", "Relu", "Sub"}
)
"""Operators that keep each axis of their input at the same position."""

_BATCH = re.compile(r"^(n|b|bs|bsz|.*batch.*)$")
_STEPS = re.compile(r"seq|len|time|token|step|past|cache|ctx|context|frames|words|^(t|s|l)$")
_PIXELS = re.compile(r"height|width|^(h|w|img.*|image.*|.*_h|.*_w)$")
_PICTURE = re.compile(r"image|img|pixel|picture|photo")
_TOTAL = re.compile(r"total|past.*\+|\+.*past")


@dataclass(frozen=True)
class Suggestion:
    """Shapes and values of all inputs that need them.

    Attributes:
        texts: The suggestion for each input, in the form that `workbench.ShapeProfile.parse` takes.
        tried: Whether shape inference found a shape for every tensor and no contradiction.
    """

    texts: Mapping[str, str]
    tried: bool

    @property
    def flags(self) -> str:
        """The suggestion as options of a command."""
        return " ".join(f"--shape {_word(f'{name}={text}')}" for name, text in self.texts.items())

    @property
    def python(self) -> str:
        """The suggestion as a Python keyword argument."""
        return f"shapes={dict(self.texts)!r}"

    @property
    def words(self) -> str:
        """A hint with the suggestion as Python; for the shell see `workbench.cli.options.in_shell`."""
        ranges = "For a range write MIN:OPT:MAX in place of one shape"
        if any(text.startswith("=") for text in self.texts.values()):
            ranges += " or value"
        note = (
            ""
            if self.tried
            else " Shape inference could not propagate these sizes through the whole model: check them."
        )
        return f"To begin with: {self.python}\n{ranges}.{note}"


def suggest(graph: Graph, also: Collection[str] = ()) -> Suggestion:
    """Suggest a shape for each input of open shape, and values for each input that is read as a shape.

    Args:
        graph: The graph.
        also: Inputs that are read as a shape although the graph alone does not show it.
    """
    read = [n for n, s in graph.shape_inputs.items() if s.dtype in INTEGERS and not s.constant]
    read += [n for n in also if n not in read]
    inputs = {n: s for n, s in graph.dynamic_inputs.items() if n not in read}
    best: tuple[tuple[int, int], Suggestion] | None = None
    pairs = ((sizes, values) for sizes in _sizes(graph, inputs) for values in _values(graph, read, sizes))
    for sizes, values in itertools.islice(pairs, TRIES):
        found = graph.at(sizes, values)
        wrong, unknown = _contradictions(found), sum(t.elements is None for t in _produced(found))
        texts = {n: "x".join(map(str, s)) for n, s in sizes.items()}
        texts |= {n: "=" + ",".join(map(str, v)) for n, v in values.items()}
        if best is None or (wrong, unknown) < best[0]:
            best = ((wrong, unknown), Suggestion(texts, not wrong and not unknown))
        if not wrong and not unknown:
            break
    return best[1] if best is not None else Suggestion({}, True)


def missing_shapes(model: str, graph: Graph, shapes: list[str], values: list[str]) -> ConfigError:
    """The error for inputs without a shape or without values, with one suggestion for all of them.

    Args:
        model: The model's name.
        graph: The model's graph.
        shapes: Inputs of open shape that have no shape.
        values: Inputs that are read as a shape and have no values.

    Returns:
        The error; ``details["shapes"]`` is the suggestion, by input.
    """
    suggestion = graph.suggestion if all(n in graph.shape_inputs for n in values) else suggest(graph, values)
    said = []
    if shapes:
        named = ", ".join(f"{n} [{', '.join(_dim(d) for d in graph.tensor(n).shape or ())}]" for n in shapes)
        many = len(shapes) > 1
        said.append(f"Input{'s' if many else ''} {named} of {model} {'are' if many else 'is'} dynamic and {'have' if many else 'has'} no shape.")  # fmt: skip
    said += [f"{_read_as(graph, n)}, and no values are given." for n in values]
    constant = f" Or make {' and '.join(values)} a constant of the model." if values else ""
    return ConfigError(
        " ".join(said),
        hint=f"{suggestion.words}{constant}",
        details={"inputs": [*shapes, *values], "shapes": dict(suggestion.texts)},
        code="shapes-missing" if shapes else "values-missing",
    )


def _read_as(graph: Graph, name: str) -> str:
    found = graph.shape_inputs.get(name)
    nodes = [graph.by_id[i] for i in found.readers] if found else []
    by = f" by {', '.join(f'{n.op} {n.id}' for n in nodes[:3])}{' and more' if len(nodes) > 3 else ''}" if nodes else ""
    return f"Input {name} is read as a shape{by}: TensorRT needs its min, opt and max values"


def _dim(dim: Dim) -> str:
    return str(dim if dim is not None else "?")


def _word(text: str) -> str:
    import shlex

    return shlex.quote(text)


# --- sizes --------------------------------------------------------------------------------------------


def _sizes(graph: Graph, inputs: Mapping[str, tuple[Dim, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Shapes of all `inputs`, the most likely first. Equal symbols have equal sizes."""
    kinds: dict[object, int] = {}  # the first size of each open dimension, by symbol or by position
    for name, shape in inputs.items():
        known, image = _used(graph, graph.tensor(name))
        for axis, dim in enumerate(shape):
            if isinstance(dim, int) and dim > 0:
                continue
            key = dim if isinstance(dim, str) and dim else (name, axis)
            size = known.get(axis) or _named(str(dim or ""), axis) or image.get(axis) or _placed(axis)
            if key not in kinds or axis in known:
                kinds[key] = size
    _sum_up(kinds)
    choices = sorted({s for s in kinds.values() if s in OTHERS})
    for picked in itertools.product(*([s, *OTHERS[s]] for s in choices)):
        change = dict(zip(choices, picked, strict=True))
        now = {key: change.get(size, size) for key, size in kinds.items()}
        _sum_up(now)
        yield {
            name: tuple(
                d if isinstance(d, int) and d > 0 else now[d if isinstance(d, str) and d else (name, axis)]
                for axis, d in enumerate(shape)
            )
            for name, shape in inputs.items()
        }


def _sum_up(kinds: dict[object, int]) -> None:
    """Set a symbol such as ``past_length + sequence_length``, or one that names a total, to the sum."""
    symbols = [key for key in kinds if isinstance(key, str)]
    for key in symbols:
        terms = [t.strip() for t in key.split("+")]
        if len(terms) > 1 and all(t in kinds or t.isdecimal() for t in terms):
            kinds[key] = sum(int(t) if t.isdecimal() else kinds[t] for t in terms)
        elif _TOTAL.search(key.lower()) and len(terms) == 1:
            past = [k for k in symbols if "past" in k and k != key]
            new = [
                k
                for k in symbols
                if k != key and "past" not in k and not _BATCH.match(k.lower()) and _STEPS.search(k.lower())
            ]
            if len(past) == 1 and len(new) == 1:
                kinds[key] = kinds[past[0]] + kinds[new[0]]


def _named(symbol: str, axis: int) -> int:
    """A size by the name of a dimension; 0 if the name gives no information."""
    name = symbol.lower()
    if not name or name.startswith("unk__"):
        return 0
    if _BATCH.match(name) and not (name in {"n", "b"} and axis):
        return 1
    if _PIXELS.search(name):
        return IMAGE
    return SEQUENCE if _STEPS.search(name) else 0


def _placed(axis: int) -> int:
    """A size by position alone: the batch comes first, then steps."""
    return 1 if axis == 0 else SEQUENCE


def _used(graph: Graph, tensor: Tensor) -> tuple[dict[int, int], dict[int, int]]:
    """Sizes of an input's axes that weights determine, and those that depend on what it is (an image, a video)."""
    known: dict[int, int] = {}
    likely: dict[int, int] = {}
    rank = len(tensor.shape or ())
    if rank == 4 and _PICTURE.search(tensor.name.lower()):
        last = (tensor.shape or (None,))[-1] in (1, 3, 4)
        likely = {1: IMAGE, 2: IMAGE} if last else {2: IMAGE, 3: IMAGE}
    queue: list[tuple[str, tuple[int, ...]]] = [(tensor.name, tuple(range(rank)))]
    seen = {tensor.name}
    while queue:
        name, axes = queue.pop()
        for node in graph.consumers.get(name, []):
            found, kind = _prescribed(graph, node, name, len(axes))
            # In a broken model, weights may not have the rank that their operator requires.
            known |= {axes[a]: size for a, size in found.items() if 0 <= a < len(axes)}
            likely = {axes[a]: size for a, size in kind.items() if 0 <= a < len(axes)} | likely
            if node.op not in _SAME and node.op != "Transpose":
                continue
            following = axes
            if node.op == "Transpose":
                order = node.attribute("perm") or list(range(rank))[::-1]
                if sorted(order) != list(range(len(axes))):
                    continue
                following = tuple(axes[a] for a in order)
            elif any(i and i != name and i not in graph.constants for i in node.inputs):
                continue  # another tensor may have broadcast it
            for output in node.outputs[:1]:
                if output not in seen:
                    seen.add(output)
                    queue.append((output, following))
    return known, likely


def _prescribed(graph: Graph, node: Node, name: str, rank: int) -> tuple[dict[int, int], dict[int, int]]:
    """Certain and likely sizes of the axes of the tensor `name` with `rank` dimensions, from one of its readers."""
    at = [i for i, n in enumerate(node.inputs) if n == name]
    if at != [0]:
        return {}, {}
    place = 3 if node.op == "QLinearConv" else 1
    weights = (graph.tensor(node.inputs[place]).shape if len(node.inputs) > place else None) or ()
    if not all(isinstance(d, int) for d in weights):
        weights = ()

    def size(axis: int) -> int | None:
        found = weights[axis] if -len(weights) <= axis < len(weights) else None
        return found if isinstance(found, int) else None

    if node.op in {"Conv", "ConvInteger", "QLinearConv"} and rank > 2:
        whole = (size(1) or 0) * (node.attribute("group") or 1)
        room = {3: (SEQUENCE,), 4: (IMAGE, IMAGE), 5: (FRAMES, IMAGE, IMAGE)}.get(rank, ())
        return ({1: whole} if whole else {}), {0: 1, **{2 + i: size for i, size in enumerate(room)}}
    if node.op == "ConvTranspose" and (channels := size(0)) is not None:
        return {1: channels}, {0: 1}
    if node.op == "MatMul" and (inner := size(-2)) is not None:
        return {rank - 1: inner}, {}
    if node.op == "Gemm" and weights and not node.attribute("transA"):
        columns = size(1 if node.attribute("transB") else 0)
        return ({1: columns} if columns is not None else {}), {0: 1}
    if node.op in {"LSTM", "GRU", "RNN"} and rank == 3 and (features := size(2)) is not None:
        steps, batch = (1, 0) if node.attribute("layout") else (0, 1)
        return {2: features}, {steps: SEQUENCE, batch: 1}
    if node.op == "BatchNormalization" and rank > 1 and (channels := size(0)) is not None:
        return {1: channels}, {}
    return {}, {}


# --- values -------------------------------------------------------------------------------------------


def _values(
    graph: Graph, read: Sequence[str], sizes: Mapping[str, tuple[int, ...]]
) -> Iterator[dict[str, tuple[int, ...]]]:
    """Values of inputs that are read as a shape, the most likely first: the shape of the reader's data, or one number."""
    if not read:
        yield {}
        return
    at = graph.at(sizes)
    choices = []
    for name in read:
        count = graph.tensor(name).elements
        options = []
        readers = graph.shape_inputs[name].readers if name in graph.shape_inputs else ()
        for node in (graph.by_id[i] for i in readers):
            shape = at.tensor(node.inputs[0]).shape if node.inputs else None
            if shape is not None and len(shape) == count and node.inputs[0] != name and name in node.inputs:
                options.append(tuple(d if isinstance(d, int) else 1 for d in shape))
        options += [(number,) * (count or 1) for number in (8, 1, 2, 16, SEQUENCE, IMAGE)]
        choices.append([(name, option) for option in dict.fromkeys(options)])
    for picked in itertools.islice(itertools.product(*choices), 32):
        yield dict(picked)


# --- results of shape inference ----------------------------------------------------------------------


def _produced(graph: Graph) -> list[Tensor]:
    return [graph.tensor(o) for node in graph.nodes if node.parent is None for o in node.outputs if o]


def _contradictions(graph: Graph) -> int:
    """Nodes with impossible shapes: a Reshape that changes the number of elements."""
    wrong = 0
    for node in graph.nodes:
        if node.op == "Reshape" and node.outputs:
            before, after = graph.tensor(node.inputs[0]).elements, graph.tensor(node.outputs[0]).elements
            wrong += before is not None and after is not None and before != after
    return wrong
