"""Records the decisions of Torch-TensorRT's partitioner while it runs.

`torch_tensorrt.dynamo` prints its partition as text only. Its compiler module calls the functions that make the partition
by name, so this module wraps them during one compilation and reads their results.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from workbench.model.provenance import source_of_fx
from workbench.plan.partition import Operator, PortDocument, Segment

_PREFIX = "torch.ops."
_CALLS = ("call_function", "call_method", "call_module")


@dataclass
class Recorder:
    """Segments in the order in which they were found, and engines by their submodule's name."""

    min_block_size: int
    asked: frozenset[str]
    segments: list[Segment] = field(default_factory=list)
    unsupported: Counter[str] = field(default_factory=Counter)
    sizes: dict[str, int | None] = field(default_factory=dict)
    graphs: int = 0
    _whole: list[Operator] | None = None

    def graph(self, module: Any) -> None:
        """A graph is about to be partitioned; all of it runs in PyTorch unless `parts` follows."""
        self.finish()
        self.graphs += 1
        self._whole = [
            self.operator(n, "no block of it reaches min_block_size={}") for n in _calls(module.graph)
        ]  # fmt: skip

    def finish(self) -> None:
        """Record a graph that was not partitioned."""
        if self._whole:
            self.segments.append(Segment("fallback", tuple(self._whole)))
            self.unsupported.update(o.op for o in self._whole if "converter" in o.reason)
        self._whole = None

    def parts(self, module: Any) -> None:
        """The graph was partitioned into the submodules of `module`."""
        self._whole = None
        loose: list[Operator] = []

        def flush() -> None:
            if loose:
                self.segments.append(Segment("fallback", tuple(loose)))
                loose.clear()

        for node in module.graph.nodes:
            child = getattr(module, str(node.target), None) if node.op == "call_module" else None
            if child is None or not hasattr(child, "graph"):
                if node.op in _CALLS and not _picks(node):
                    loose.append(self.operator(node, "its block is smaller than min_block_size={}"))
                continue
            flush()
            engine = "_run_on_acc" in str(node.target)
            operators = tuple(
                Operator(n.name, _name(n), source_of_fx(n)) if engine
                else self.operator(n, "its block is smaller than min_block_size={}")
                for n in _calls(child.graph)
            )  # fmt: skip
            inputs = tuple(_tensor(n) for n in child.graph.nodes if n.op == "placeholder")
            last = next(iter(reversed(child.graph.nodes)))
            outputs = tuple(_tensor(n) for n in last.all_input_nodes)
            self.segments.append(
                Segment("tensorrt" if engine else "fallback", operators, inputs, outputs, str(node.target))
            )
        flush()

    def operator(self, node: Any, small: str) -> Operator:
        """An operator that stays in PyTorch, with the reason."""
        op = _name(node)
        registry = importlib.import_module("torch_tensorrt.dynamo.conversion._ConverterRegistry").DYNAMO_CONVERTERS
        if f"{_PREFIX}{op}" in self.asked:
            reason = "asked for by torch_executed_ops"
        elif _picks(node):
            reason = "picks one result of the operator before it"
        elif node in registry:
            reason = small.format(self.min_block_size)
        elif node.target in registry.unique_targets():
            reason = "no converter takes it with these arguments or types"
        else:
            reason = "torch_tensorrt has no converter for it"
        return Operator(node.name, op, source_of_fx(node), reason)


def qualified(operators: Iterable[str]) -> frozenset[str]:
    """Operators as Torch-TensorRT names them: with ``torch.ops.``, which users may leave out."""
    return frozenset(op if op.startswith(_PREFIX) else f"{_PREFIX}{op}" for op in operators)


@contextmanager
def recording(min_block_size: int, asked: frozenset[str] = frozenset()) -> Iterator[Recorder]:
    """Record every partition that is made in the ``with`` block; torch_tensorrt must be imported already."""
    compiler = importlib.import_module("torch_tensorrt.dynamo._compiler")
    partitioning = importlib.import_module("torch_tensorrt.dynamo.partitioning")
    recorder = Recorder(min_block_size, asked)
    kept: list[tuple[Any, str, Any]] = []

    def wrap(place: Any, name: str, after: Callable[..., None], before: bool = False) -> None:
        own = getattr(place, name)
        kept.append((place, name, own))

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if before:
                after(None, args, kwargs)
            result = own(*args, **kwargs)
            if not before:
                after(result, args, kwargs)
            return result

        setattr(place, name, wrapped)

    def parted(result: Any, _args: Any, _kwargs: Any) -> None:
        recorder.parts(result[0])
        refused = {_op(k): v for k, v in result[1].unsupported_operators.items()}
        recorder.unsupported.update({op: n for op, n in refused.items() if not op.endswith("getitem")})

    def converted(result: Any, _args: Any, kwargs: Any) -> None:
        data = getattr(result, "serialized_engine", None)
        recorder.sizes[str(kwargs.get("name", ""))] = None if data is None else len(data)

    wrap(partitioning, "get_graph_converter_support", lambda _r, args, _k: recorder.graph(args[0]), before=True)
    wrap(partitioning, "fast_partition", parted)
    wrap(partitioning, "global_partition", parted)
    wrap(compiler, "convert_module", converted)
    try:
        yield recorder
    finally:
        for place, name, own in kept:
            setattr(place, name, own)
        recorder.finish()


def _calls(graph: Any) -> list[Any]:
    return [n for n in graph.nodes if n.op in _CALLS]


def _picks(node: Any) -> bool:
    return getattr(node.target, "__name__", "") == "getitem"


def _name(node: Any) -> str:
    target = node.target
    return _op(str(target) if "OpOverload" in type(target).__name__ else getattr(target, "__name__", str(target)))


def _op(name: Any) -> str:
    return str(name).removeprefix(_PREFIX)


def _tensor(node: Any) -> PortDocument:
    value = node.meta.get("val")
    shape = (
        None if getattr(value, "shape", None) is None else [d if isinstance(d, int) else str(d) for d in value.shape]
    )
    return {"name": node.name, "shape": shape, "dtype": str(getattr(value, "dtype", "")).removeprefix("torch.")}
