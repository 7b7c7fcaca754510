"""For models that are built elsewhere in these tests: the partition by the builder agrees with the build."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.support import SAMPLES, needs_rtx
from workbench import Session
from workbench.core.errors import BuildError

pytestmark = needs_rtx
LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("light_*.onnx"))
FILES = [*sorted(SAMPLES.glob("*.onnx")), *LIGHT]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_partition_by_builder_agrees_with_the_build(shared: Session, file: Path, precision: str) -> None:
    found = shared.torch.partition(file, method="builder", target="sm89", precision=precision)
    try:
        shared.build(file, target="sm89", precision=precision)
    except BuildError:
        assert found.fallbacks
        assert found.refusals
        assert found.coverage < 1
    else:
        assert not found.fallbacks
        assert (found.engines, found.refusals) == (1, ())
