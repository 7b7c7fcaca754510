"""The builder's timing cache, weight streaming and refit, against the real names of each version."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support import fake_gpu, fake_tensorrt
from tests.support.fake_gpu import Pretended, pretend
from tests.support.fake_tensorrt import API, VERSIONS, Silent, State, fake_module
from tests.support.small_models import mlp, save
from workbench import BuildConfig, Session, compilers
from workbench.compilers.base import Builds
from workbench.compilers.tensorrt import build as adapter
from workbench.compilers.tensorrt import refit as refitting
from workbench.compilers.tensorrt.runtime import Runner
from workbench.core.errors import BuildError, CompilerUnavailableError, ConfigError
from workbench.core.shared_arrays import SentArrays
from workbench.hardware.machine import Gpu, gpus
from workbench.measure.running import refit

pytestmark = pytest.mark.tiny
made = fake_tensorrt.made


class Cache:
    """An ITimingCache: its bytes are what was put together."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data

    def queryKeys(self) -> list[int]:
        if self.data.startswith(b"t++"):
            raise RuntimeError("it is not editable")
        return list(range(3))

    def query(self, key: int) -> SimpleNamespace:
        return SimpleNamespace(tacticHash=key + 0xA0, timingMSec=[0.5, float("nan"), 2.5][key])

    def combine(self, other: Cache, ignore: bool) -> bool:
        assert not ignore
        self.data += other.data
        return True


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder adds ``+`` to the cache that it was given, and refuses what does not begin with ``t``."""
    held: dict[str, Cache] = {}

    def take(m: Any, s: State, options: Any, cache: Cache, ignore: bool) -> bool:
        assert not ignore
        if cache.data[:1] not in (b"", b"t"):
            return False
        held["now"] = cache
        return True

    def build(m: Any, s: State, *args: Any) -> Any:
        if "now" in held:
            held["now"].data = (held["now"].data or b"t") + b"+"
            s.logger.log(m.ILogger.Severity.VERBOSE, "Timing cache hit for x")
        if s.meanwhile:
            s.meanwhile()
        return fake_tensorrt.build_engine(m, s, *args)

    for key, value in {
        ("IBuilderConfig", "create_timing_cache"): lambda m, s, o, data: Cache(data),
        ("IBuilderConfig", "set_timing_cache"): take,
        ("IBuilderConfig", "get_timing_cache"): lambda m, s, o: held.get("now"),
        ("Builder", "build_serialized_network"): build,
    }.items():
        monkeypatch.setitem(fake_tensorrt.SPECIAL, key, value)


@pytest.fixture
def timings(keeping: None, made: Any) -> Any:
    made[2].meanwhile = None
    return made


def build(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    file = tmp_path / "caches" / "one"
    original = adapter.build
    with monkeypatch.context() as patch:
        patch.setattr(adapter, "build", lambda *a, **k: original(*a, cache=str(file), **k))
        return fake_tensorrt.run(module, tmp_path, **options)["facts"]


def test_timings_are_kept_from_build_to_build(timings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version, module, state = timings
    file = tmp_path / "caches" / "one"
    first = build(module, tmp_path, monkeypatch)
    if version == "rtx":  # it times nothing while it builds
        assert "timing_cache" not in first
        assert not file.exists()
        return
    held = {"entries": 3, "slowest": [["0x00000000000000a2", 2.5], ["0x00000000000000a0", 0.5]]}
    assert first["timing_cache"] == {"bytes_before": 0, "bytes_after": 2, "hits": 1, **held}
    assert file.read_bytes() == b"t+"
    again = build(module, tmp_path, monkeypatch)["timing_cache"]
    assert again == {"bytes_before": 2, "bytes_after": 3, "hits": 1}  # what can't be asked is not told
    assert file.read_bytes() == b"t++"
    state.meanwhile = lambda: file.write_bytes(b"theirs")
    build(module, tmp_path, monkeypatch)
    assert file.read_bytes() == b"t+++theirs"  # another build's timings are not lost
    state.meanwhile = None
    file.write_bytes(b"of another version")
    assert build(module, tmp_path, monkeypatch)["timing_cache"]["bytes_before"] == 0
    file.unlink()
    assert "timing_cache" not in build(module, tmp_path, monkeypatch, flags=("disable_timing_cache",))
    assert not file.exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_contents_are_asked_for_by_names_that_exist(version: str) -> None:
    classes = json.loads((API / VERSIONS[version]).read_text())["classes"]
    assert {"queryKeys", "query"} <= set(classes["ITimingCache"]["methods"])
    assert {"tacticHash", "timingMSec"} <= set(classes["TimingCacheValue"]["properties"])


def test_a_build_names_a_file_in_the_store(session: Session, tmp_path: Path) -> None:
    work = session.engines.start(save(mlp("n"), tmp_path / "m.onnx"), compiler="fake", shapes={"x": "1x8"})
    work.result()
    place = work._cache(compilers.get("fake", Builds))
    assert place.parent == session.store.path / "caches" / "builds"
    assert place != work._cache(SimpleNamespace(name="fake", version=lambda: "2"))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", VERSIONS)
def test_weights_are_streamed_within_a_budget(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Pretended()
    engine = fake_gpu.Engine(version, device)
    engine.streamable = 1000
    module = pretend(version, engine, State(""), monkeypatch.setitem)
    path = tmp_path / "engine"
    path.write_bytes(b"e" * 200)
    for asked, set_to in ((0, 0), (300, 300), (10**9, 1000)):
        runner = Runner(module, path, device, weight_budget=asked)
        assert runner.engine.weight_streaming_budget_v2 == set_to
    with pytest.raises(ConfigError, match="0 or more"):
        Runner(module, path, device, weight_budget=-1)
    monkeypatch.setitem(fake_tensorrt.DEFAULTS, "streamable_weights_size", 0)
    with pytest.raises(ConfigError, match="streams no weights") as caught:
        Runner(module, path, device, weight_budget=300)
    assert "weight_streaming=True" in str(caught.value.hint)
    Runner(module, path, device)


W = {"a": np.ones((2, 3), "float32"), "b": np.zeros(4, "float16")}


@pytest.fixture(params=VERSIONS)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A pretended engine with the weights of `W`; writing it writes what was set."""
    state = State("")
    state.weights, state.good = {}, True
    sizes = {"a": ("FLOAT", 6), "b": ("HALF", 4)}
    special = {
        ("Runtime", "deserialize_cuda_engine"): lambda m, s, r, data: m.ICudaEngine(),
        ("Refitter", "get_all_weights"): lambda m, s, r: list(sizes),
        ("Refitter", "get_missing_weights"): lambda m, s, r: ["b"] if s.missing and "b" not in s.weights else [],
        ("Refitter", "get_weights_prototype"): lambda m, s, r, n: SimpleNamespace(
            dtype=getattr(m.DataType, sizes[n][0]), size=sizes[n][1]
        ),
        ("Refitter", "set_named_weights"): lambda m, s, r, n, w: s.weights.update({n: w}) or s.good,
        ("Refitter", "refit_cuda_engine"): lambda m, s, r: s.good,
        ("OnnxParserRefitter", "refit_from_file"): lambda m, s, p, path: s.weights.update({"file": path}) or s.good,
        ("ICudaEngine", "create_serialization_config"): lambda m, s, e: m.ISerializationConfig(),
        ("ICudaEngine", "serialize_with_config"): lambda m, s, e, c: "+".join(s.weights).encode(),
    }
    for key, value in special.items():
        monkeypatch.setitem(fake_tensorrt.SPECIAL, key, value)
    monkeypatch.setitem(fake_tensorrt.DEFAULTS, "refittable", True)
    state.missing = False
    module = fake_module(request.param, state)
    module.Weights.__init__ = lambda self, kind, pointer, count: None
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(refitting, "gpus", lambda: (Gpu("g", "sm89", 1, "1"),))
    path = tmp_path / "engine"
    path.write_bytes(b"e" * 200)
    return module, state, path


def again(engine: Any, weights: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    module, _, path = engine
    shared = SentArrays()
    place = None if weights is None else shared.put(weights)
    return refitting.refit(Silent(), module=module.__name__, engine=str(path), out=str(path.with_name("new")),
                           weights=place, **options)  # type: ignore[arg-type]  # fmt: skip


def test_weights_are_replaced(engine: Any) -> None:
    module, state, path = engine
    assert again(engine, W) == {"bytes": 3, "weights": 2}
    assert path.with_name("new").read_bytes() == b"a+b"
    assert path.read_bytes() == b"e" * 200
    state.weights.clear()
    assert again(engine, {"b": W["b"]})["weights"] == 1
    state.weights.clear()
    assert again(engine, model="m.onnx") == {"bytes": 4, "weights": None}
    called = [name for name, _ in state.calls]
    assert "ISerializationConfig.clear_flag" in called  # a stripped engine is written whole
    assert ("ISerializationConfig.set_flag" in called) == hasattr(module.SerializationFlag, "INCLUDE_REFIT")


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        ({"c": W["a"]}, "no-such-weights"),
        ({"a": W["a"].astype("float16")}, "weights-mismatch"),
        ({"a": W["a"][:1]}, "weights-mismatch"),
        ({"a": W["a"].astype("float64")}, "weights-type"),
    ],
)
def test_weights_that_do_not_fit_are_told(engine: Any, weights: dict[str, Any], code: str) -> None:
    with pytest.raises(ConfigError) as info:
        again(engine, weights)
    assert info.value.code == code
    assert not engine[2].with_name("new").exists()


def test_what_else_can_go_wrong_is_told(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, state, _ = engine
    state.missing = True

    def refused(kind: type[Exception], *given: Any, **options: Any) -> str:
        with pytest.raises(kind) as info:
            again(engine, *given, **options)
        return str(info.value.code)  # type: ignore[attr-defined]

    assert refused(ConfigError, {"a": W["a"]}) == "weights-missing"
    state.good = False
    assert refused(ConfigError, W) == "weights-refused"
    assert refused(ConfigError, model="m.onnx") == "other-model"
    state.missing = False
    assert refused(BuildError, {}) == "refit-failed"
    monkeypatch.setitem(fake_tensorrt.DEFAULTS, "refittable", False)
    assert refused(ConfigError, W) == "not-refittable"


def test_refit_asks_for_an_engine_made_for_it(tmp_path: Path) -> None:
    made = SimpleNamespace(config=BuildConfig(compiler="tensorrt_rtx"))
    with pytest.raises(ConfigError, match="not built to be refitted"):
        refit(made, W, tmp_path / "new")  # type: ignore[arg-type]
    made.config = BuildConfig.of(compiler="tensorrt_rtx", refit=True)
    with pytest.raises(ConfigError, match="does not exist"):
        refit(made, tmp_path / "none.onnx", tmp_path / "new")  # type: ignore[arg-type]
    made.model, made.path = "m", tmp_path / "engine"
    made.plan = SimpleNamespace(compiler={})
    if not gpus():
        with pytest.raises(CompilerUnavailableError, match="needs an NVIDIA GPU"):
            refit(made, W, tmp_path / "new")  # type: ignore[arg-type]
