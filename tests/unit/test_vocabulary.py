"""TensorRT's words stay in TensorRT's folder; elsewhere a compiler's vocabulary is asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import workbench
from workbench import compilers
from workbench.compilers.tensorrt.dtypes import ENUM, INSPECTOR, NAMES
from workbench.compilers.tensorrt.vocabulary import TensorRTVocabulary
from workbench.core.dtypes import DTYPES
from workbench.plan.document import Kind
from workbench.plan.kinds import KINDS
from workbench.plan.vocabulary import NEUTRAL

pytestmark = pytest.mark.tiny

PACKAGE = Path(workbench.__file__).parent
OWN = re.compile(r"__myl_|\bkgen\b|\bcorrelation\b|\$\$myelin|CASK|_mye1", re.IGNORECASE)


def test_no_file_outside_its_folder_uses_tensorrts_names() -> None:
    folders = ("plan", "present", "charts", "analysis", "precision", "measure", "session", "widgets", "model")
    files = [file for folder in folders for file in (PACKAGE / folder).rglob("*.py")]
    assert len(files) > 50
    assert [str(f.relative_to(PACKAGE)) for f in files if OWN.search(f.read_text())] == []


def test_the_registry_knows_whose_words_are_whose() -> None:
    assert isinstance(compilers.vocabulary("tensorrt_rtx"), TensorRTVocabulary)
    assert isinstance(compilers.vocabulary("tensorrt"), TensorRTVocabulary)
    assert compilers.vocabulary("fake") is NEUTRAL
    assert compilers.vocabulary("of another machine") is NEUTRAL


def test_generated_names_are_read() -> None:
    words = TensorRTVocabulary()
    assert words.meanings("__myl_FcAddXyz_myl0_1") == {"Fc": "matrix product", "Add": "add", "Xyz": "Xyz"}
    assert words.requantizations("__myl_MulMinMaxRounCastMinMaxRounCast_myl0_1") == 2
    assert words.only_converts("__myl_MulCast_myl0_1")
    assert not words.only_converts("__myl_MulAddCast_myl0_1")
    assert not words.only_converts("conv1")
    assert words.tactic("__myelin_CASK_STUB") == "chosen when the engine first runs on its GPU"
    assert words.tactic("sm80_xmma") == "sm80_xmma"
    assert (NEUTRAL.meanings("__myl_FcAdd_myl0_1"), NEUTRAL.tactic("t")) == ({}, "t")


def test_every_kind_has_a_meaning() -> None:
    assert set(KINDS) == set(get_args(Kind))


def test_tensorrts_types_are_types() -> None:
    assert set(NAMES.values()) <= set(DTYPES)
    assert all(NAMES[spelling] == name for table in (ENUM, INSPECTOR) for name, spelling in table.items())
