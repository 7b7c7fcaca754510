"""ModelOpt itself, where its environment was made: WORKBENCH_TEST_MODELOPT names the WORKBENCH_HOME that holds it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.support import needs_rtx
from workbench import Session
from workbench.core.environments import look
from workbench.core.store import Store
from workbench.precision.audit import audit
from workbench.precision.modelopt import autocast

HOME = os.environ.get("WORKBENCH_TEST_MODELOPT", "")
pytestmark = pytest.mark.skipif(
    not HOME, reason="WORKBENCH_TEST_MODELOPT names no home with `workbench env create modelopt`"
)


@pytest.fixture
def there(session: Session) -> Session:
    assert look("modelopt", Store(Path(HOME))).state == "ready"
    (session.store.path / "environments").symlink_to(Path(HOME) / "environments")
    return session


@needs_rtx
@pytest.mark.parametrize("to", ["int8", "fp8"])
def test_a_quantized_model_builds_and_is_audited(there: Session, to: str) -> None:
    phases: list[str] = []
    low = there.precision.quantize(
        "residual_block", "random:8", to=to, library="modelopt",
        on_job=lambda job: job.on_change(lambda now: phases.extend(p.phase for p in now.progress)),
    )  # fmt: skip
    assert "Calibrating" in phases
    assert len(low.origin["quantized"]) == 2
    assert audit(there.build(low, target="sm89").plan).products == {
        "conv": {"int8" if to == "int8" else "float8e4m3fn": 2}
    }
    first = low.origin["quantized"][0]
    kept = there.precision.quantize("residual_block", "random:8", to=to, library="modelopt", keep=(first,))
    assert kept.origin["left"] == {first: "kept on request"}
    again = there.precision.quantize("residual_block", "random:8", to=to, library="modelopt")
    assert again.path == low.path


def test_weights_in_int4(there: Session) -> None:
    low = there.precision.quantize("linear_bias_gelu", to="int4", library="modelopt")
    assert low.operators()["DequantizeLinear"] == 1
    assert len(low.origin["quantized"]) == 1


@needs_rtx
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_autocast(there: Session, precision: str) -> None:
    model = there.add("residual_block")
    half = autocast(model, precision, there.store)
    assert autocast(model, precision, there.store).path == half.path
    wanted = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    assert audit(there.build(half, target="sm89").plan).products == {"conv": {wanted: 2}}
    kept = autocast(model, precision, there.store, keep=(next(n.id for n in model.graph.nodes if n.op == "Conv"),))
    assert kept.origin["kept"]["Conv"] == 1
    if precision == "fp16":
        x = np.random.default_rng(0).standard_normal([1, *model.graph.tensor("x").shape[1:]]).astype("float32")
        right, got = (ort.InferenceSession(str(m.path)).run(None, {"x": x})[0] for m in (model, half))
        assert np.abs(right - got).max() < 0.01 * np.abs(right).max()
