"""The Checks panel without a browser: what it shows, selects, asks and follows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import HAS_RTX, SAMPLES, needs_rtx, wait_for
from tests.support.refused_models import attention
from tests.support.small_models import model, node, save, value
from workbench import Session
from workbench.core.errors import BuildError, UnsupportedNodesError


def text(panel: Any) -> str:
    return " ".join(child.value for card in panel.cards for child in card.children if hasattr(child, "value"))


def buttons(panel: Any) -> list[Any]:
    return [child for card in panel.cards for child in card.children if hasattr(child, "on_click")]


def dynamic(session: Session, folder: Any) -> None:
    proto = model([node("Relu", ["x"], ["y"], "relu")], [value("x", ["n", 4])], [value("y", ["n", 4])])
    session.add(str(save(proto, folder / "open.onnx")))


def test_nothing_yet(session: Session) -> None:
    panel = session.panel("checks")
    assert "session.add" in panel.body.children[0].value
    assert panel.error == ""


def test_a_model_and_its_selection(session: Session, tmp_path: Any) -> None:
    panel = session.panel("checks")
    dynamic(session, tmp_path)  # it follows what is added
    assert panel.subject.value == "model:open"
    assert "is dynamic and has no shape yet" in text(panel)
    (button,) = buttons(panel)
    assert button.description == "Select 1 node"
    button.click()
    assert (session.selection.kind, session.selection.ids) == ("node", ("relu",))
    assert "session.checks('open', parser=False)" in panel.code
    scope: dict[str, Any] = {}
    session.selection = None
    exec(compile(panel.code, "shown", "exec"), scope)
    assert session.selection.ids == ("relu",)
    scope["session"].close()


def test_an_engine_is_followed(built: Session) -> None:
    panel = built.panel("checks")
    engine = built.engines[-1]
    assert panel.subject.value == f"engine:{engine.key}"
    assert panel.ask.layout.display == "none"
    assert panel.found.engine == engine.id
    second = built.build("attention", compiler="fake", optimization_level=1)
    assert panel.subject.value == f"engine:{second.key}"
    # The model of that engine can be looked at as well.
    panel.subject.value = "model:attention"
    assert panel.found.engine == ""
    assert panel.ask.layout.display is None
    assert "Not checked" in panel._list.children[0].children[0].children[-1].value


def test_a_model_that_is_gone(session: Session, tmp_path: Any) -> None:
    panel = session.panel("checks")
    dynamic(session, tmp_path)
    session.add(SAMPLES / "attention.onnx")
    (tmp_path / "open.onnx").unlink()
    panel.subject.value = "model:open"
    assert "open.onnx" in panel.error
    assert panel._list.children == ()
    panel.subject.value = "model:attention"
    assert panel.error == ""
    session.models.remove("attention")
    assert panel.subject.value == "model:open"


@needs_rtx
def test_a_build_that_is_refused_shows_why(session: Session) -> None:
    session.add(SAMPLES / "attention.onnx")
    panel = session.panel("checks")
    with pytest.raises(UnsupportedNodesError):
        session.build("unsupported", target="sm89")
    assert wait_for(lambda: "TensorRT does not support Det" in text(panel))
    assert panel.subject.value == "model:unsupported"
    assert panel._parts.value.count("<b>") == 3
    assert wait_for(lambda: not panel.ask.disabled)
    panel.subject.value = "model:attention"
    assert panel._parts.value == ""
    panel.subject.value = "model:unsupported"
    assert "TensorRT does not support Det" in text(panel)  # asked once


@needs_rtx
def test_a_build_that_the_builder_refuses_shows_why(session: Session, tmp_path: Any) -> None:
    """The parser takes the model, so the builder has to be asked, as the build was."""
    path = save(attention(queries="q"), tmp_path / "att.onnx")
    panel = session.panel("checks")
    with pytest.raises(BuildError):
        session.build(path, target="sm86", shapes={"q": "1x4x16x64"})
    assert wait_for(lambda: "TensorRT does not support Attention" in text(panel))
    assert wait_for(lambda: "target='sm86'" in panel.code)
    assert "shapes={'q': '1x4x16x64'}" in panel.code
    assert panel.found.partition.settings["target"] == "sm86"


@pytest.mark.skipif(HAS_RTX, reason="tensorrt_rtx is installed")
def test_without_tensorrt(session: Session) -> None:
    session.add(SAMPLES / "unsupported.onnx")
    panel = session.panel("checks")
    panel.ask.click()
    assert wait_for(lambda: not panel.ask.disabled)
    assert "not installed" in panel.found.unchecked[0]


@needs_rtx
def test_asking_can_be_cancelled(session: Session) -> None:
    session.add(SAMPLES / "unsupported.onnx")
    panel = session.panel("checks")
    panel.ask.click()
    assert wait_for(lambda: panel.work._task is not None)
    panel.work.cancel.click()
    assert wait_for(lambda: not panel.ask.disabled)
    assert panel.work.cancel.disabled
    assert "Canceled" in panel.work.status.value
    assert panel.error == ""
    assert "unsupported" not in panel.found
