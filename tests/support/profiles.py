"""A profile of an engine that can't be run here: the real `compilers.tensorrt.profile` on a fake GPU and runtime."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.fake_gpu import Pretended
from tests.support.fake_tensorrt import Silent
from workbench import Session
from workbench.analysis.roofline import estimates
from workbench.engine import Engine
from workbench.hardware.devices import device
from workbench.measure.profile import profile
from workbench.measure.runner import Port
from workbench.plan import Plan
from workbench.plan.plan import HOST


def layer_times(plan: Plan, gpu: str = "h100") -> list[float]:
    """Milliseconds of each layer as a profiler might tell them: the estimate, less well reached by small layers."""
    rng = random.Random(7)
    found = estimates(plan, device(gpu))
    return [
        round((found[layer.id].time_ms or 0.0) * rng.uniform(1.3, 2.6) + 0.004 * layer.launches, 6)
        for layer in plan.layers
    ]


class PretendedRunner:
    """The `Runner` of an engine with the layers of a plan."""

    def __init__(self, plan: Plan, times: Sequence[float], output: np.ndarray) -> None:
        self.plan, self.times = plan, times
        shapes = {io["name"]: tuple(io["shape"]) for io in plan.io if io["mode"] == "input"}
        self._shapes = {n: tuple(d if d > 0 else 1 for d in shape) for n, shape in shapes.items()}
        self.ports = {n: Port(n, True, "float32", s) for n, s in self._shapes.items()}
        self.inputs = list(self.ports.values())
        self.bound: dict[str, Any] = {}
        self._output = output
        self._kinds = {la.name: la.kind for la in plan.layers}

    def bound_inputs(self) -> dict[str, Any]:
        return self.bound

    def starts_kernel(self, layer: dict[str, Any]) -> bool:
        return self._kinds[layer["name"]] not in HOST

    def opt_shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def bind(self, host: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.bound = dict(host)
        return {"y": self._output}

    def run(self) -> None:
        pass

    def layer_times(self, iterations: int, tell: Any = None) -> list[tuple[str, list[float]]]:
        rows = [
            (la.name, [t] * iterations) for la, t in zip(self.plan.layers, self.times, strict=True) if la.kind != "sync"
        ]
        for i in range(iterations):
            if tell:
                tell(i)
        return rows

    def facts(self) -> dict[str, Any]:
        layers = [
            {
                "name": la.name,
                "type": la.type,
                "tactic": f"pretended tactic of {la.name}",
                "inputs": [],
                "outputs": [],
                "nodes": [],
            }
            for la in self.plan.layers
        ]
        return {
            "compiler": {"name": "tensorrt_rtx", "version": "1.5.0.114", "validity": "VALID"},
            "specialization": "eager", "inspector": {"layers": layers, "io": [], "evidence": "reported"},
        }  # fmt: skip

    def memory(self) -> dict[str, int]:
        return {"device_memory_size_v2": 16_220_160}


class SteppingGpu(Pretended):
    """A GPU on which a run takes about `milliseconds`, and a CUDA graph a fifth less."""

    def __init__(self, milliseconds: float, unsteady: bool = False) -> None:
        super().__init__()
        self._rng = random.Random(3)
        self._base, self._unsteady, self._drift, self._replayed = milliseconds, unsteady, 1.0, False

    def times(self, step: Any, count: int) -> list[float]:
        self._replayed = False
        step()
        self._drift *= 1.05 if self._unsteady else 1.0
        base = self._base * self._drift * (1.0 if self._replayed else 1.25)
        return [base * (1 + abs(self._rng.gauss(0, 0.02))) for _ in range(count)]

    def capture(self, step: Any) -> Any:
        def replay() -> None:
            step()
            self._replayed = True

        return replay

    def facts(self) -> dict[str, Any]:
        return {"name": "NVIDIA H100 80GB HBM3", "sm": "sm90", "driver": "580.159.04", "memory": 85_520_809_984}

    def used(self) -> int:
        return 0

    def ceilings(self) -> dict[str, Any]:
        return {"bandwidth": 2.9e12, "peaks": {"fp32": 5.1e13, "tf32": 3.6e14, "fp16": 6.7e14}, "size": 8192}

    def kernels(self, step: Any) -> list[dict[str, Any]]:
        return [{"name": f"kernel_{i}", "ms": 0.01} for i in range(3)]


class Gauge:
    """Clocks and energy of a GPU that is not here."""

    def __init__(self) -> None:
        self._joules = 0.0

    def sample(self) -> None:
        pass

    def joules(self) -> float:
        self._joules += 1.5
        return self._joules

    def clocks(self) -> dict[str, Any]:
        return {"sm_mhz": 1755.0, "sm_least_mhz": 1740, "sm_most_mhz": 1755, "sm_highest_mhz": 1980, "memory_mhz": 2619,
                "steady": False, "watts": 311.0, "held_back_by": [], "samples": 9}  # fmt: skip


def measure(
    engine: Engine,
    *,
    error: float = 3.5e-4,
    finite: bool = True,
    unsteady: bool = False,
    reference: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Lay a profile beside `engine` and return it. The outputs are off by the relative `error`."""
    plan = engine.plan
    times = layer_times(plan)
    right = np.linspace(1.0, 2.0, 1000).reshape(1, 1000)
    got = right * (1 + error)
    if not finite:
        got[0, 3] = np.nan
    place = engine.folder / "profiles"
    place.mkdir(exist_ok=True)
    file = engine.folder / "right.npz"
    np.savez(file, y=right)
    runner = PretendedRunner(plan, times, got)
    document = profile(
        Silent(), SteppingGpu(0.86 * sum(times), unsteady), lambda: runner, engine=str(engine.path), folder=str(place),
        file=f"{time.time_ns()}.json", reference=str(file) if reference else None,
        **{"transfers": True, "duration_ms": 40.0, "warm_up_ms": 1.0, "gauge": Gauge(), **options},
    )  # fmt: skip
    file.unlink()
    return document


def document(ms: float, **parts: Any) -> dict[str, Any]:
    """The smallest profile: plain executions took `ms`; `parts` replace its fields."""
    plain = {"mean_ms": ms, "median_ms": ms, "p90_ms": ms, "p99_ms": ms, "iterations": 1}
    return {
        "schema": "workbench.profile/1", "latency": {"plain": plain}, "layers": [], "layer_iterations": 0, "error": None,
        "device": {"name": "a GPU"}, "machine": {}, "memory": {}, "notes": [], "shapes": {}, **parts,
    }  # fmt: skip


def tell(session: Session, engine: Engine) -> None:
    """What `session.measure.start_profile` says when a profile is there."""
    session.events.emit("profile-added", {"engine": engine.key, "model": engine.model})


def of_another_engine(engine: Engine) -> Path:
    """A profile beside `engine` whose layers are not its own."""
    document = measure(engine)
    document["layers"] = [{**row, "name": f"other_{i}"} for i, row in enumerate(document["layers"])]
    place = engine.folder / "profiles" / f"{time.time_ns()}.json"
    place.write_text(json.dumps(document))
    return place
