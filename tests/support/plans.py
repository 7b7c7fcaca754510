"""Plans made by hand."""

from __future__ import annotations

from workbench.compilers.tensorrt.vocabulary import TensorRTVocabulary
from workbench.compilers.tensorrt.words import kind_of
from workbench.hardware.devices import DeviceSpec
from workbench.model.graph import Graph
from workbench.plan import Layer, Plan, PlanTensor, assemble


def raw(
    name: str, kind: str, nodes: list[str], reads: list[tuple], writes: list[tuple], constants: list[tuple] = ()
) -> dict:
    def tensors(parts: list[tuple]) -> list[dict]:
        return [{"name": n, "shape": list(s), "strides": None, "dtype": d, "format": f} for n, s, d, f in
                (p if len(p) == 4 else (*p, "float32", "Linear") for p in parts)]  # fmt: skip

    return {"name": name, "type": kind, "nodes": nodes, "inputs": tensors(reads), "outputs": tensors(writes),
            "constants": tensors(list(constants)), "tactic": "", "stream": 0, "event": None, "metadata": ""}  # fmt: skip


def planned(
    graph: Graph, layers: list[dict], io: list[str], profiles: dict | None = None, facts: dict | None = None, **more
) -> Plan:
    record = {"compiler": {"name": "hand", "version": "1", "target": "sm89"}, "layers": layers,
              "seconds": {"load": 0.0, "parse": 0.0, "build": 0.0, "total": 0.0},
              "io": [{"name": n, "mode": "input" if n in graph.inputs else "output", "dtype": "float32",
                      "shape": [d if isinstance(d, int) else -1 for d in graph.tensor(n).shape or ()],
                      "profiles": (profiles or {}).get(n, [])} for n in io], "facts": facts or {}}  # fmt: skip
    more = {"vocabulary": TensorRTVocabulary(), **more}
    return assemble(graph, record, model=("m", "0" * 64), config={}, evidence="reported", **more)


SIZE = {"float32": 4, "float16": 2, "int8": 1, "float8e4m3fn": 1}


def tensor(name: str, dtype: str, n: int = 1000) -> PlanTensor:
    return PlanTensor(name, (n,), dtype, bytes=n * SIZE[dtype])


def layer(name: str, type_: str, reads: str, stores: str, constants: str = "", flops: int = 10) -> Layer:
    inputs = tuple(tensor(f"{name}.in{i}", d) for i, d in enumerate(reads.split()))
    outputs = tuple(tensor(f"{name}.out{i}", d) for i, d in enumerate(stores.split()))
    held = tuple(tensor(f"{name}.w", d) for d in constants.split())
    return Layer(
        id=name, name=name, title=name, type=type_, kind=kind_of(type_, name, []) or "other", nodes=(f"node_{name}",), evidence="reported",
        inputs=inputs, outputs=outputs, constants=held, flops=flops,
        bytes_read=sum(t.bytes or 0 for t in (*inputs, *held)), bytes_written=sum(t.bytes or 0 for t in outputs),
    )  # fmt: skip


def plan(*layers: Layer, precision: str = "fp32") -> Plan:
    return Plan(model={"name": "m"}, compiler={"name": "tensorrt_rtx", "version": "1", "target": "sm89"}, config={"precision": precision},
                seconds={}, layers=layers, unclaimed=(), io=())  # fmt: skip


CARD = DeviceSpec("card", "sm80", 1e12, {"fp32": 1e12, "tf32": 8e12, "fp16": 16e12, "int8": 32e12}, "made up")
