"""Modules with the real names of TensorRT versions that can't be installed here.

A module is made from a recorded list of classes, methods, properties and enum members (tests/data/api). It has exactly those
names, so that touching any other is an AttributeError.
"""

from __future__ import annotations

import enum
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.support import DATA
from tests.support.small_models import mlp, save
from workbench import BuildConfig, ShapeProfile
from workbench.compilers.tensorrt import build as adapter

API = DATA / "api"
VERSIONS = {"10": "tensorrt_10.13.json", "11": "tensorrt_11.4.json", "rtx": "tensorrt_rtx_1.7.json"}
LISTINGS = DATA / "listings"
LISTING = {"10": "1.4.0.76", "11": "1.7.1.116", "rtx": "1.7.1.116"}


class Silent:
    def progress(self, *args: object) -> None:
        pass


class State:
    """What the fake library does, and the calls that it received."""

    def __init__(self, listing: str) -> None:
        self.listing = listing
        self.parses = True
        self.errors: list[Any] = []
        self.complaint = ""
        self.calls: list[tuple[str, tuple]] = []
        self.sets: dict[str, Any] = {}


def fake_module(version: str, state: State) -> types.ModuleType:
    api = json.loads((API / VERSIONS[version]).read_text())
    module = types.ModuleType(f"pretended_{version}")
    module.__version__ = api["version"]
    for name, members in api["enums"].items():
        owner = enum.IntEnum(name, {m: i for i, m in enumerate(members)})
        setattr(module, name.rpartition(".")[2], owner)

    def behaviour(owner: str, name: str) -> Any:
        special = SPECIAL.get((owner, name))

        def method(self: Any, *args: Any) -> Any:
            state.calls.append((f"{owner}.{name}", args))
            return special(module, state, self, *args) if special else None

        return method

    for name, parts in api["classes"].items():
        own: dict[str, Any] = {}
        for method in parts["methods"]:
            if not method.startswith("_"):
                own[method] = behaviour(name, method)
        slots = {p for p in parts["properties"] if not p.startswith("_")}

        def getter(self: Any, attribute: str, known: set[str] = slots, title: str = name) -> Any:
            if attribute in known:
                return DEFAULTS.get(attribute)
            raise AttributeError(f"{title} of {version} has no {attribute}")

        def setter(self: Any, attribute: str, value: Any, known: set[str] = slots, title: str = name) -> None:
            if title.startswith("I") and type(self).__name__ == title and attribute not in known:
                raise AttributeError(f"{title} of {version} has no {attribute}")
            state.sets[attribute] = value
            object.__setattr__(self, attribute, value)

        own["__getattr__"], own["__setattr__"] = getter, setter
        own["__init__"] = lambda self, *args: None
        setattr(module, name.rpartition(".")[2], type(name, (), own))
    nested = {"Severity": "ILogger"}
    for name, owner in nested.items():
        if not hasattr(getattr(module, owner), name):
            levels = ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"]
            setattr(getattr(module, owner), name, enum.IntEnum(name, {m: i for i, m in enumerate(levels)}))
    return module


class Shaped:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape


def build_engine(module: Any, state: State, builder: Any, network: Any, options: Any) -> Any:
    logger = state.logger
    if state.complaint:
        logger.log(module.ILogger.Severity.ERROR, state.complaint)
        return None
    monitor = state.sets.get("progress_monitor")
    if monitor is not None:
        monitor.phase_start("Building", None, 2)
        assert monitor.step_complete("Building", 0)
        monitor.phase_finish("Building")
    if state.listing:
        logger.log(module.ILogger.Severity.VERBOSE, state.listing)
    return b"engine"


def create_network(module: Any, state: State, builder: Any, flags: int = 0) -> Any:
    return module.INetworkDefinition()


SPECIAL = {
    ("Builder", "create_network"): create_network,
    ("Builder", "create_builder_config"): lambda m, s, b: m.IBuilderConfig(),
    ("Builder", "create_optimization_profile"): lambda m, s, b: m.IOptimizationProfile(),
    ("Builder", "build_serialized_network"): build_engine,
    ("OnnxParser", "parse_from_file"): lambda m, s, p, path: s.parses,
    ("OnnxParser", "get_error"): lambda m, s, p, i: s.errors[i],
    ("OnnxParser", "get_subgraph_nodes"): lambda m, s, p, i: [0],
    ("INetworkDefinition", "get_input"): lambda m, s, n, i: Shaped("x", (-1, 8)),
    ("INetworkDefinition", "get_output"): lambda m, s, n, i: Shaped("linear_3", (-1, 8)),
    ("INetworkDefinition", "get_layer"): lambda m, s, n, i: None,
}
DEFAULTS: dict[str, Any] = {"num_inputs": 1, "num_outputs": 1, "num_layers": 0, "num_errors": 0, "num_subgraphs": 1}


@pytest.fixture(params=VERSIONS)
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, types.ModuleType, State]:
    """A version, its module, and what that module does; the adapter's logger is kept as ``state.logger``."""
    state = State((LISTINGS / LISTING[request.param] / "attention.txt").read_text())
    module = fake_module(request.param, state)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    original = adapter.log_to
    monkeypatch.setattr(
        adapter, "log_to", lambda trt, path: setattr(state, "logger", original(trt, path)) or state.logger
    )
    return request.param, module, state


def run(module: types.ModuleType, tmp_path: Path, **options: Any) -> dict[str, Any]:
    path = save(mlp("n"), tmp_path / "m.onnx")
    options.setdefault("profiles", ShapeProfile.parse(["x=1x8:2x8:4x8"]))
    config = BuildConfig.of(compiler="tensorrt", **options).to_dict()
    adapter.build(Silent(), module=module.__name__, model=str(path), config=config, folder=str(tmp_path))
    return json.loads((tmp_path / "record.json").read_text())
