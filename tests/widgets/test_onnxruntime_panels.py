"""The Build, Fusions, Profile, Streams and Memory panels with onnxruntime on the CPU: build, map, and a real measurement."""

from __future__ import annotations

import re
from typing import Any

import ipywidgets
import pytest

from tests.support import SAMPLES
from workbench import Session

pytest.importorskip("onnxruntime", reason="the panels show engines of onnxruntime: pip install onnxruntime")

GPU_WORDS = re.compile(r"\bGPUs?\b|CUDA|TensorRT|launch|roofline", re.IGNORECASE)


@pytest.fixture
def engine(session: Session) -> Any:
    session.add(SAMPLES / "attention.onnx", name="attention")
    return session.build("attention", compiler="onnxruntime", target="cpu")


def text_of(widget: Any) -> str:
    """All text that a widget and its visible children show."""
    if getattr(widget.layout, "display", None) == "none":
        return ""
    own = [str(getattr(widget, name, "") or "") for name in ("value", "description")]
    own += [str(output["data"]) for output in getattr(widget, "outputs", ())]
    children = [text_of(child) for child in getattr(widget, "children", ())]
    return re.sub(r"<style>.*?</style>", "", " ".join([*own, *children]), flags=re.DOTALL)


def open_all(tabs: Any) -> list[str]:
    for i in range(len(tabs.titles)):
        tabs.selected_index = i
    return list(tabs.titles)


def test_build_with_onnxruntime(session: Session) -> None:
    panel = session.panel("build")
    panel.model.value = str(SAMPLES / "attention.onnx")
    panel.compiler.value = "onnxruntime"
    assert [value for _, value in panel.targets.options] == ["cpu"]
    assert panel.targets.value == ("cpu",)
    assert "target='cpu'" in panel.code
    assert "compiler='onnxruntime'" in panel.code
    panel.button.click()
    panel.work.wait()
    assert panel.error == ""
    assert "Built in" in panel.work.status.value
    assert session.engines[-1].plan.device_kind == "cpu"


def test_fusions_are_those_of_a_cpu(session: Session, engine: Any) -> None:
    panel = session.panel("fusions")
    open_all(panel._tabs)
    assert panel.error == ""
    shown = text_of(panel)
    assert "Kernels" in shown
    assert not GPU_WORDS.findall(shown.replace(panel.chooser.value, ""))
    assert any(layer.evidence != "none" for layer in engine.plan.layers)


def test_a_measurement_on_the_cpu(session: Session, engine: Any) -> None:
    panel = session.panel("profile")
    assert not panel.button.disabled
    assert panel._tabs not in panel.body.children  # nothing is measured, and nothing can be estimated
    assert panel.form.graph.layout.display == "none"
    panel.form.graph.value = False  # set for a GPU: it means nothing here
    panel.form.duration.value = 50
    panel.button.click()
    panel.work.wait(120)
    assert panel.error == ""
    assert "Measured in" in panel.work.status.value
    assert "duration_ms=50.0" in panel.code
    assert "graph=" not in panel.code
    titles = open_all(panel._tabs)
    assert panel.error == ""
    assert {"Latency", "Layers", "Timeline", "Conditions"} <= set(titles)
    assert "Roofline" not in titles
    assert engine.measured.facts["measured"]["latency"]["median_ms"] > 0
    assert all(layer.time_ms is not None for layer in engine.measured.layers if layer.launches)
    found = GPU_WORDS.findall(text_of(panel))
    assert found == []


@pytest.mark.parametrize("name", ["engine", "memory", "streams", "checks"])
def test_other_panels_say_nothing_about_a_gpu(name: str, session: Session, engine: Any) -> None:
    panel = session.panel(name)
    if hasattr(panel, "_tabs"):
        panel._log.show("")
        titles = [t for t in panel._tabs.titles if t != "Log"]  # the log is ONNX Runtime's
        for title in titles:
            panel._tabs.selected_index = panel._tabs.titles.index(title)
    assert panel.error == ""
    assert GPU_WORDS.findall(text_of(panel)) == []


def test_the_text_of_hidden_widgets_is_not_read() -> None:
    """Else the tests above would prove nothing."""
    shown, hidden = ipywidgets.HTML("shown"), ipywidgets.HTML("hidden", layout=ipywidgets.Layout(display="none"))
    assert text_of(ipywidgets.VBox([shown, hidden])).split() == ["shown"]
