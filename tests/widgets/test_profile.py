"""The Profile and Engine panels: what was measured, what is estimated, and what goes wrong, without a GPU."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets
import pytest

from tests.support import SAMPLES, profiles, trtexec_files, wait_for
from tests.support.wire_format import part
from workbench import Session
from workbench.analysis.difference import difference
from workbench.analysis.roofline import estimates
from workbench.core.errors import CancelledError, ProfileError, StoreError, WorkbenchError
from workbench.core.jobs import Progress
from workbench.core.units import ms_text
from workbench.hardware.devices import device
from workbench.panels.engine_changes import changes_html
from workbench.panels.engine_rows import memory_rows, readable
from workbench.panels.profile_form import batches_of
from workbench.panels.profile_rows import batch_of, conditions, energy_facts, headline, kernel_rows, sweep_rows
from workbench.present import wire
from workbench.session.engines import Engines
from workbench.session.measure import Measure
from workbench.widgets import TableView
from workbench.widgets.views import View


@pytest.fixture
def fresh(session: Session) -> Session:
    """A session of its own with one engine: profiles are laid beside it."""
    session.build(str(SAMPLES / "attention.onnx"), compiler="fake")
    return session


def inside(widget: Any, kind: type) -> Iterator[Any]:
    if isinstance(widget, kind):
        yield widget
    for child in getattr(widget, "children", ()):
        yield from inside(child, kind)


def text_of(widget: Any) -> str:
    return "\n".join(str(one.value) for one in inside(widget, ipywidgets.HTML))


def open_all(panel: Any) -> list[str]:
    """Open each tab; a tab whose content fails shows in the panel."""
    for i in range(len(panel._tabs.titles)):
        panel._tabs.selected_index = i
        assert panel.error == "", panel._tabs.titles[i]
    return list(panel._tabs.titles)


def titles(widget: Any) -> list[str]:
    return [out["data"]["text/plain"] for place in inside(widget, ipywidgets.Output) for out in place.outputs]


def drawn(panel: Any, tab: str) -> dict[str, Any]:
    """The first chart of a tab, as the browser gets it."""
    panel._tabs.selected_index = list(panel._tabs.titles).index(tab)
    out = next(inside(panel._tabs.children[panel._tabs.selected_index], ipywidgets.Output))
    return out.outputs[0]["data"]["application/vnd.plotly.v1+json"]


# --- times flow through the house ------------------------------------------------------------------------


def test_a_profile_reaches_map_table_details_and_report(fresh: Session, tmp_path: Path) -> None:
    engine = fresh.engines[-1]
    panel = fresh.panel("fusions")
    assert "time" not in [c["name"] for c in wire.layer_table(panel._table.lens)["columns"]]
    before = panel._details.data
    profiles.measure(engine)
    profiles.tell(fresh, engine)
    lens = panel._table.lens
    times = [layer.time_ms for layer in engine.measured.layers]
    table = wire.layer_table(lens)
    column = next(c for c in table["columns"] if c["name"] == "time")
    assert (column["unit"], column["source"]) == ("ms", "measured")
    assert table["rows"][table["columns"].index(column)] == pytest.approx(times, rel=1e-3)
    overlay = wire.plan_data(lens)["overlays"][0]
    assert (overlay["name"], overlay["unit"], overlay["source"]) == ("time", "ms", "measured")
    fact = wire.details(lens, "layer", lens.plan.layers[0].id)["sections"][0]["rows"][1]
    assert (fact["name"], fact["value"], fact["source"]) == ("Time", times[0], "measured")
    assert panel._details.data != before  # else the browser would keep details without times
    assert "Latency" in text_of(panel)
    page = fresh.report(tmp_path / "r.html").read_text()
    assert "<th style='text-align:left;padding:2px 8px'>time, measured</th>" in page
    payload = json.loads(part(page, "payload"))
    assert [f["title"] for f in payload["figures"]][:2] == ["Latency", "Slowest layers"]
    assert "Latency" in [f["name"] for f in payload["facts"]]
    assert any("layers take" in line for line in payload["footer"])


def test_a_profile_from_another_notebook_is_followed(fresh: Session) -> None:
    panel = fresh.panel("profile")
    assert "Latency" not in panel._tabs.titles
    other = Session(fresh.name)
    profiles.measure(other.engines[-1])
    profiles.tell(other, other.engines[-1])
    assert wait_for(lambda: "Latency" in panel._tabs.titles)
    other.close()


def test_a_profile_of_an_engine_that_is_not_shown_changes_nothing(fresh: Session) -> None:
    first = fresh.engines[-1]
    fresh.build(str(SAMPLES / "residual_block.onnx"), compiler="fake")
    panel = fresh.panel("profile")
    profiles.measure(first)
    profiles.tell(fresh, first)
    assert "Latency" not in panel._tabs.titles
    fresh.engines.current = first
    assert "Latency" in panel._tabs.titles


# --- the profile panel -----------------------------------------------------------------------------------


def test_without_an_engine_it_says_what_can_be_done(session: Session) -> None:
    panel = session.panel("profile")
    assert panel.error == ""
    assert "No engine yet" in text_of(panel)
    assert "session.files.inspect(" in text_of(panel)


def test_without_a_profile_everything_is_an_estimate(fresh: Session) -> None:
    engine = fresh.engines[-1]
    panel = fresh.panel("profile")
    assert panel.button.disabled
    assert "fake can&#x27;t profile engines here: the fake compiler makes nothing that runs." in panel.work.status.value
    assert "Nothing is measured yet" in text_of(panel)
    assert open_all(panel)[0] == "Layers"
    assert all("estimated" in title for title in titles(panel._tabs))
    assert panel.gpu.value == "rtx-4090"  # it was built for sm89
    (table,) = inside(panel._tabs, TableView)
    column = wire.layer_table(table.lens)["columns"][3]
    assert (column["name"], column["source"]) == ("least", "estimated")
    largest = max(drawn(panel, "Layers")["data"][0]["x"])
    assert largest == max(e.time_ms or 0 for e in estimates(engine.plan, device("rtx-4090")).values())
    panel.gpu.value = "t4"
    assert max(drawn(panel, "Layers")["data"][0]["x"]) == max(
        e.time_ms or 0 for e in estimates(engine.plan, device("t4")).values()
    )
    assert "devices.device('t4')" in panel.code
    assert "Tesla T4" in drawn(panel, "Roofline")["layout"]["title"]["text"]


def test_a_profile_is_shown_whole(fresh: Session) -> None:
    engine = fresh.engines[-1]
    document = profiles.measure(engine)
    panel = fresh.panel("profile")
    kernels = ["Kernels"] if document.get("kernels") else []
    assert open_all(panel) == ["Latency", "Layers", "Timeline", "Modules", "Roofline", *kernels, "Conditions"]
    assert not any("estimated" in title for title in titles(panel._tabs))
    facts = {f["name"]: f for f in headline(engine.measured.facts["measured"])}
    median = document["latency"]["graph"]["median_ms"]
    assert facts["median latency"]["note"] == "CUDA graph"
    assert document["latency"]["plain"]["median_ms"] == pytest.approx(1.25 * median, rel=0.1)
    assert facts["median latency"]["value"] == ms_text(median)
    assert {"p90", "p99", "throughput", "median, one by one", "median, with transfers", "first run", "sum of layers",
            "relative error"} <= set(facts)  # fmt: skip
    assert facts["relative error"]["value"] == "0.00035"
    told = text_of(panel)
    assert "NVIDIA H100 80GB HBM3, sm90, 580.159.04" in told
    assert "layers take" in told.lower()  # the sum beside the end-to-end time, explained
    times = [layer.time_ms or 0 for layer in engine.measured.layers]
    assert max(drawn(panel, "Layers")["data"][0]["x"]) == max(times)
    assert sum(sum(t["x"]) for t in drawn(panel, "Timeline")["data"]) == pytest.approx(sum(times))
    assert "layers measured" in drawn(panel, "Roofline")["layout"]["title"]["text"]
    assert "H100" in drawn(panel, "Roofline")["layout"]["title"]["text"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"error": 0.06}, "The outputs are wrong: relative error 0.06"),
        ({"finite": False}, "1 value of y are NaN or infinite"),
    ],
)
def test_wrong_outputs_are_an_alarm(how: dict[str, Any], said: str, fresh: Session) -> None:
    profiles.measure(fresh.engines[-1], **how)
    panel = fresh.panel("profile")
    assert said in panel._facts.value
    assert "wbp-error" in panel._facts.value
    assert "role='alert'" in panel._facts.value


def test_what_is_not_known_or_not_steady_is_a_note(fresh: Session) -> None:
    profiles.measure(fresh.engines[-1], reference=False, unsteady=True)
    panel = fresh.panel("profile")
    assert "it is unknown whether the outputs are correct" in panel._facts.value
    assert "did not become steady" in panel._facts.value
    assert "wbp-error" not in panel._facts.value
    assert "relative error" not in panel._facts.value


def test_one_selection(fresh: Session) -> None:
    engine = fresh.engines[-1]
    profiles.measure(engine)
    panel = fresh.panel("profile")
    chosen = engine.plan.layers[1]
    _ = drawn(panel, "Roofline")
    table = None
    for tab in ("Layers", "Timeline"):
        _ = drawn(panel, tab)
        table = table or next(inside(panel._tabs, TableView), None)
    assert table is not None
    table.selection = {"ids": [chosen.id], "origin": "graph-layer-1", "kind": "layer"}  # a click in the table
    assert fresh.selection.ids == (chosen.id,)
    # The open chart is drawn again at once, the others when they are opened.
    assert sum(w == 3 for t in drawn(panel, "Timeline")["data"] for w in t["marker"]["line"]["width"]) == 1
    assert 3 in drawn(panel, "Layers")["data"][0]["marker"]["line"]["width"]
    fresh.selection = chosen.nodes[0]  # of a node: the layers that execute it
    assert sum(w == 3 for t in drawn(panel, "Timeline")["data"] for w in t["marker"]["line"]["width"]) == 1
    assert f"session.selection = [{chosen.nodes[0]!r}]" in panel.code
    fresh.selection = None
    assert 3 not in drawn(panel, "Layers")["data"][0]["marker"]["line"]["width"]


def test_charts_are_kilobytes_and_old_views_are_closed(fresh: Session) -> None:
    engine = fresh.engines[-1]
    profiles.measure(engine)
    panel = fresh.panel("profile")
    open_all(panel)
    size = sum(len(json.dumps(out.outputs)) for out in inside(panel._tabs, ipywidgets.Output))
    assert size < 100_000
    old = list(inside(panel._tabs, View))
    assert old
    profiles.tell(fresh, engine)
    assert all(view._stop is None for view in old)


class _Job:
    """What the panel asks of a job."""

    def __init__(self, error: WorkbenchError | None = None, ends: bool = True) -> None:
        self.title, self.message, self.seconds = "profile of attention", "Timing layers", 1.5
        self.progress = [Progress("Timing layers", 3, 20)]
        self.error = error
        self._done = threading.Event()
        if ends:
            self.end()

    def end(self) -> None:
        self._done.set()

    def cancel(self) -> None:
        self.error = CancelledError("cancelled")
        self.end()

    def result(self) -> dict[str, Any]:
        assert self._done.wait(30)
        if self.error:
            raise self.error
        return {}


@pytest.fixture
def can_measure(
    fresh: Session, able: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[_Job], tuple[Any, list[dict]]]:
    """A panel on a machine that can measure; the measuring itself is a pretended job."""

    def make(job: _Job) -> tuple[Any, list[dict]]:
        asked: list[dict] = []
        monkeypatch.setattr(Measure, "start_profile", lambda self, engine, **options: (asked.append(options), job)[1])
        return fresh.panel("profile"), asked

    return make


def test_measure_asks_for_what_the_form_says(can_measure: Any) -> None:
    panel, asked = can_measure(_Job())
    assert not panel.button.disabled
    panel.form.transfers.value, panel.form.graph.value, panel.form.duration.value = True, False, 250
    panel.form.reference.value = "nothing"
    panel.form.inputs.value = " in.npz "
    panel.form.batches.value = "1, 8"
    panel.button.click()
    assert wait_for(lambda: "Measured in 1.5 s" in panel.work.status.value)
    assert asked == [{"graph": False, "transfers": True, "duration_ms": 250.0, "batches": [1, 8], "inputs": "in.npz",
                      "reference": False}]  # fmt: skip
    line = "session.measure.profile(engine, graph=False, transfers=True, duration_ms=250.0, batches=[1, 8], inputs='in.npz', reference=False)"
    assert line in panel.code
    assert "Timing layers 3/20" in text_of(panel.work.bars)
    assert wait_for(lambda: not panel.button.disabled)
    assert panel.work.cancel.disabled
    panel.form.reference.value = "a file"
    panel.button.click()
    assert "data-code='no-reference-file'" in panel.error
    assert len(asked) == 1


def test_measuring_that_fails_or_is_cancelled(can_measure: Any) -> None:
    panel, _ = can_measure(_Job(WorkbenchError("The GPU has too little free memory for it.", hint="Close other work.")))
    panel.button.click()
    assert wait_for(lambda: "too little free memory" in panel.error)
    assert "Close other work." in panel.error
    assert "Failed" in panel.work.status.value
    assert wait_for(lambda: not panel.button.disabled)
    panel, _ = can_measure(_Job(ends=False))
    panel.button.click()
    assert wait_for(lambda: panel.work.bars.children)
    assert panel.button.disabled
    panel.work.cancel.click()
    assert wait_for(lambda: "Canceled" in panel.work.status.value)
    assert panel.error == ""


# --- bad inputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["profile", "fusions", "engine"])
def test_a_profile_of_another_engine_is_told_and_nothing_else_breaks(name: str, fresh: Session, tmp_path: Path) -> None:
    engine = fresh.engines[-1]
    profiles.of_another_engine(engine)
    with pytest.raises(ProfileError):
        _ = engine.measured
    panel = fresh.panel(name)
    assert "not of one engine" in panel.error
    panel._tabs.selected_index = 1
    assert list(inside(panel, View)) or name == "engine"
    assert fresh.report(tmp_path / "r.html").stat().st_size > 100_000


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "workbench.profile/9"}', "{}", '{"layers": 3}'])
def test_a_profile_that_cannot_be_read(content: str, fresh: Session) -> None:
    engine = fresh.engines[-1]
    (engine.folder / "profiles").mkdir()
    (engine.folder / "profiles" / "1.json").write_text(content)
    with pytest.raises(ProfileError):
        _ = engine.measured
    panel = fresh.panel("profile")
    assert "can&#x27;t be shown" in panel.error
    assert "Nothing is measured yet" in text_of(panel)


def test_an_engine_whose_folder_is_gone(fresh: Session, tmp_path: Path) -> None:
    engine = fresh.engines[-1]
    panels = [fresh.panel(name) for name in ("profile", "engine")]
    shutil.rmtree(engine.folder)
    with pytest.raises(StoreError, match="no longer in the store"):
        _ = engine.record
    with pytest.raises(StoreError, match="no longer in the store"):
        engine.save(tmp_path / "x")
    engine_panel = panels[1]
    engine_panel._tabs.selected_index = 3
    assert "no longer in the store" in engine_panel.error
    engine_panel.path.value = str(tmp_path / "x.engine")
    engine_panel.save.click()
    assert "no longer in the store" in engine_panel.error
    # A panel that is opened now finds no engine, and says so.
    for name in ("profile", "engine"):
        assert "No engine yet" in text_of(fresh.panel(name))
        assert fresh.panel(name).error == ""


def test_hostile_names_are_no_markup(tmp_path: Path, session: Session) -> None:
    from tests.support.small_models import model, node, save, value

    bad = "<script>alert(1)</script>"
    proto = model([node("Relu", [bad], [bad + "y"], bad)], [value(bad, [4])], [value(bad + "y", [4])])
    session.add(str(save(proto, tmp_path / "hostile.onnx")))
    engine = session.build("hostile", compiler="fake")
    profiles.measure(engine)
    session.selection = engine.plan.layers[0].id
    for name in ("profile", "engine"):
        panel = session.panel(name)
        open_all(panel)
        assert bad not in text_of(panel)
        assert not any(bad in json.dumps(out.outputs) for out in inside(panel, ipywidgets.Output))


# --- plans of trtexec's files ----------------------------------------------------------------------------


def test_a_plan_of_trtexecs_files_in_panels_and_report(session: Session, tmp_path: Path) -> None:
    file = trtexec_files.write("fp16", tmp_path / "set")
    plan = session.files.inspect(
        file["graph"], profile=file["profile"], times=file["timing"], metadata=[file["metadata"]]
    )
    panel = session.panel("profile", plan)
    assert panel.error == ""
    assert open_all(panel) == ["Latency", "Layers", "Timeline", "Roofline"]
    mean = f"{plan.facts['measured']['latency']['mean_ms']:.3f} ms"
    assert mean in panel._facts.value
    slowest = max(layer.time_ms or 0.0 for layer in plan.layers)
    assert max(drawn(panel, "Layers")["data"][0]["x"]) == pytest.approx(slowest, rel=0.01)
    assert panel.gpu.value == "a100"
    fusions = session.panel("fusions", plan=plan)
    assert fusions.error == ""
    assert "Latency" in text_of(fusions)
    for shown in (panel, fusions):
        scope: dict[str, Any] = {}
        exec(compile(shown.code, "shown", "exec"), scope)
        assert scope["plan"].facts["measured"]["latency"] == plan.facts["measured"]["latency"]
        scope["session"].close()
    assert session.report(tmp_path / "r.html", plan).stat().st_size < 1_000_000
    # News of engines is no news to a panel of a plan.
    session.build(str(SAMPLES / "attention.onnx"), compiler="fake")
    assert mean in panel._facts.value
    with pytest.raises(StoreError, match="shows engines of the session"):
        session.panel("memory", plan)


# --- the engine panel ------------------------------------------------------------------------------------


def test_the_engine_looked_into(fresh: Session) -> None:
    engine = fresh.engines[-1]
    panel = fresh.panel("engine")
    assert open_all(panel) == ["Overview", "Layers", "Memory", "Log", "Compare"]
    told = text_of(panel)
    for word in ("the serialized engine", "Build options", "peak activations", "only engine of the session"):
        assert word in told
    assert len(panel.layers.options) == len(engine.plan.layers)
    assert "Choose a layer" in panel._raw.value
    assert f"{len(engine.log.splitlines())} lines" in told


def test_the_inspector_searches_raw_records_and_follows_the_selection(fresh: Session) -> None:
    engine = fresh.engines[-1]
    profiles.measure(engine)
    panel = fresh.panel("engine")
    open_all(panel)
    layer = engine.plan.layers[2]
    raw = engine.record["layers"][2]
    tensor = raw["outputs"][0]["name"]
    panel.search.value = tensor
    found = [key for _, key in panel.layers.options]
    assert layer.id in found
    assert len(found) == sum(tensor in json.dumps(one) for one in engine.record["layers"])
    panel.layers.value = layer.id
    assert fresh.selection.ids == (layer.id,)
    assert tensor in panel._raw.value
    assert f"pretended tactic of {layer.name}" in panel._raw.value  # what the inspector said, beside the log
    fresh.selection = engine.plan.layers[0].id
    assert panel.layers.value is None  # the search does not find it
    assert engine.record["layers"][0]["outputs"][0]["name"] in panel._raw.value
    panel.search.value = "no such thing"
    assert panel.layers.options == ()
    assert "0 of" in panel._count.value


def test_save_as(fresh: Session, tmp_path: Path) -> None:
    panel = fresh.panel("engine")
    panel.save.click()
    assert "No file is named" in panel.error
    panel.path.value = str(tmp_path / "none" / "x.engine")
    panel.save.click()
    assert "can&#x27;t be written" in panel.error
    panel.path.value = str(tmp_path / "x.engine")
    panel.save.click()
    assert panel.error == ""
    assert (tmp_path / "x.engine").read_bytes() == fresh.engines[-1].path.read_bytes()
    assert "engine.save(" in panel.code


def test_what_changed_against_another(fresh: Session) -> None:
    first = fresh.engines[-1]
    panel = fresh.panel("engine")
    open_all(panel)
    second = fresh.build("attention", compiler="fake", optimization_level=3)
    profiles.measure(first)
    profiles.measure(second)
    profiles.tell(fresh, second)
    assert panel.chooser.value == second.key
    assert panel.other.value == first.key
    told = text_of(panel._tabs)
    assert "optimization level" in told
    assert f"{len(first.plan.layers)} kernels execute the same nodes in both" in told
    assert "median latency" in told
    assert f"session.engines.find({first.key[:12]!r})" in panel.code
    fresh.build(str(SAMPLES / "residual_block.onnx"), compiler="fake")
    assert "no node in common" in panel._changes.value
    same = changes_html(first.plan, first.plan, (10, 10))
    assert "no change" in same
    assert "option" not in same
    assert "another tactic" not in same
    named = [replace(first.plan, layers=tuple(replace(la, tactic=name) for la in first.plan.layers)) for name in "ab"]
    told = changes_html(named[0], named[1], (10, 10))
    assert "another tactic" in told
    pairs = difference(*named).tactics
    assert [(a.tactic, b.tactic) for a, b in pairs] == [("a", "b")] * len(difference(*named).same)


def test_memory_from_every_source(fresh: Session) -> None:
    engine = fresh.engines[-1]
    profiles.measure(engine)
    rows = {row[0]: row[1:] for row in memory_rows(engine, engine.measured)}
    assert rows["activations and scratch"][:2] == ["16.2 MB", "reported"]
    assert rows["peak activations"][1] == "computed"
    assert rows["used on the GPU"][1] == "measured"
    assert rows["engine file"][0].endswith("B")


def test_caches_are_told(fresh: Session) -> None:
    panel = fresh.panel("engine")
    assert "takes this engine from the cache" in text_of(panel)
    fresh.build("attention", compiler="fake")
    panel = fresh.panel("engine")
    assert "Found in the cache 1 time in this session" in text_of(panel)


def test_the_timing_cache_is_told(fresh: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    timings = {
        "bytes_before": 0,
        "bytes_after": 2048,
        "hits": 1,
        "entries": 3,
        "slowest": [["0x00000000000000a2", 2.5]],
    }
    engine = fresh.engines[-1]
    plan = replace(engine.plan, facts={**engine.plan.facts, "timing_cache": timings})
    monkeypatch.setattr(type(engine), "measured", property(lambda _: plan))
    panel = fresh.panel("engine")
    open_all(panel)
    told = text_of(panel)
    assert "Timing cache: 0 B before this build, 2.05 kB after, 3 entries; the log names 1 hit" in told
    assert "0x00000000000000a2" in told
    assert ms_text(2.5) in told


def test_raw_records_can_be_read() -> None:
    record = {"name": "a [1,\n 2]", "shape": [1, 64, 7], "nodes": ["x", "y"], "inputs": [{"dims": [2]}], "none": []}
    text = readable(record)
    assert '"shape": [1, 64, 7]' in text
    assert '{\n   "dims": [2]\n  }' in text
    assert json.loads(text) == record


def test_words_of_a_document() -> None:
    assert batch_of({"shapes": {"x": [8, 3], "m": [8]}}) == 8
    assert batch_of({"shapes": {"x": [8, 3], "m": [1]}}) is None
    assert batch_of({"shapes": {"x": []}}) is None
    assert batch_of({}) is None
    assert headline({}) == []
    assert batches_of("1, 8 32") == [1, 8, 32]
    for bad in ("0", "8x", "-1", "1.5"):
        with pytest.raises(WorkbenchError) as info:
            batches_of(bad)
        assert info.value.code == "batch-sizes"
    rows = dict(map(tuple, conditions({"shapes": {"x": [1, 3]}, "notes": ["inputs are random"]})))  # type: ignore[arg-type]
    assert rows["inputs"] == "x 1×3"
    assert rows["note"] == "inputs are random"


EXTRAS = {
    "sweep": [{"batch": 1, "way": "graph", "median_ms": 1.0, "p99_ms": 1.1, "throughput": 1000.0},
              {"batch": 64, "missing": "Input x is 1 to 32 <script>"}],
    "kernels": {"rows": [{"name": "sm90_<script>xmma", "ms": 0.0123, "layer": "a"}, {"name": "copy", "ms": 0.5, "layer": None}],
                "joined": "by name"},
    "clocks": {"sm_mhz": 1755.0, "sm_least_mhz": 1740, "sm_most_mhz": 1770, "sm_highest_mhz": 1980, "memory_mhz": 2619,
               "steady": False, "watts": 311.4, "held_back_by": ["power limit"], "samples": 9},
    "energy": {"way": "graph", "joules": 15.0, "runs": 100, "joules_per_run": 0.15},
    "ceilings": {"name": "NVIDIA H100", "sm": "sm90", "bandwidth": 2.9e12, "peaks": {"fp32": 5.1e13, "tf32": 3.6e14},
                 "source": "measured on this GPU: one copy, one GEMM", "measured": True},
}  # fmt: skip
"""What a profile also holds where it could be had; see `workbench.measure.profile.profile`."""


def with_extras(engine: Any) -> None:
    document = {**profiles.measure(engine), **EXTRAS}
    (engine.folder / "profiles" / "9999999999999999999.json").write_text(json.dumps(document))


def test_batches_kernels_clocks_energy_and_measured_ceilings(fresh: Session) -> None:
    engine = fresh.engines[-1]
    with_extras(engine)
    panel = fresh.panel("profile")
    tabs = open_all(panel)
    assert tabs[-3:] == ["Batches", "Kernels", "Conditions"]
    facts = {f["name"]: (f["value"], f["note"]) for f in energy_facts(engine.measured.facts["measured"])}
    assert facts == {
        "energy per run": ("150 mJ", "whole GPU, CUDA graph"), "SM clock": ("1755 MHz", "of 1980, 1740 to 1770 MHz"),
        "power": ("311 W", "mean, whole GPU"),
    }  # fmt: skip
    assert "150 mJ" in panel._facts.value
    assert "throttled during the measurement: power limit" in panel._facts.value
    assert sweep_rows(EXTRAS) == [
        ["1", "1.000 ms", "1.100 ms", "1,000", "CUDA graph"],
        ["64", "", "", "", "Input x is 1 to 32 <script>"],
    ]
    assert kernel_rows(EXTRAS)[0] == ["0", "sm90_<script>xmma", "12.3 µs", "a"]
    told = text_of(panel)
    assert "sm90_&lt;script&gt;xmma" in told
    assert "<script>" not in told
    assert "Matched with layers by name" in told
    title = drawn(panel, "Roofline")["layout"]["title"]["text"]
    assert "NVIDIA H100, measured ceilings" in title
    assert panel.gpu.value == "measured"
    panel.gpu.value = "h100"  # a reader may hold it against the datasheet instead
    assert "H100 SXM, datasheet ceilings: an estimate" in drawn(panel, "Roofline")["layout"]["title"]["text"]


def test_the_code_of_an_estimate_from_measured_ceilings_runs(fresh: Session) -> None:
    engine = fresh.engines[-1]
    document = {**profiles.measure(engine), **EXTRAS, "layers": [], "layer_iterations": 0, "specialization": "none"}
    (engine.folder / "profiles" / "9999999999999999999.json").write_text(json.dumps(document))
    panel = fresh.panel("profile")
    assert panel.gpu.value == "measured"
    assert "kernels for open shapes" in text_of(panel._conditions_tab())
    lines = [line for line in panel.code.splitlines() if "session" not in line.lower()]
    place: dict[str, Any] = {"plan": engine.measured, "engine": engine}
    exec("\n".join(lines), place)
    assert "times.measured_ceilings(plan)" in panel.code


def test_measuring_may_be_cancelled_before_it_has_begun(can_measure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job, go = _Job(ends=False), threading.Event()
    panel, _ = can_measure(job)
    monkeypatch.setattr(Measure, "start_profile", lambda self, engine, **options: (go.wait(10), job)[1])
    panel.button.click()
    panel.work.cancel.click()
    go.set()
    assert wait_for(lambda: "Canceled" in panel.work.status.value)


def test_rebuild(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "copy.onnx"
    shutil.copyfile(SAMPLES / "attention.onnx", path)
    session.build(str(path), compiler="fake")
    panel = session.panel("engine")
    assert "<td>fits</td>" in text_of(panel)
    panel.rebuild.click()
    assert wait_for(lambda: "found in the cache" in panel.work.status.value)
    assert wait_for(lambda: not panel.rebuild.disabled)
    assert "session.engines.rebuild(engine)" in panel.code
    path.unlink()
    panel.rebuild.click()
    assert wait_for(lambda: panel.error)


def test_cancel_ends_the_rebuild_and_no_other_build(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.build(SAMPLES / "attention.onnx", compiler="fake")
    panel = session.panel("engine")
    begin, go = Engines.start, threading.Event()

    def start(self: Engines, model: Any, config: Any, **options: Any) -> Any:
        go.wait(10)
        return begin(self, model, config.replace(flags=("hang",)), **options)

    monkeypatch.setattr(Engines, "start", start)
    panel.rebuild.click()
    other = begin(session.engines, SAMPLES / "attention.onnx", compiler="fake", flags=("hang", "other"))
    panel.work.cancel.click()
    go.set()
    assert wait_for(lambda: "Canceled" in panel.work.status.value)
    assert other.status == "running"
    other.cancel()


def test_measuring_ends_as_what_it_is(can_measure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    panel, _ = can_measure(_Job(ends=False))
    panel.button.click()
    assert wait_for(lambda: panel.work.bars.children)
    panel.work.cancel.click()
    assert wait_for(lambda: "Canceled" in panel.work.status.value)
    assert not panel.work.bars.children

    # The job before was cancelled: that this one never began is a failure all the same.
    def refused(self: Session, engine: Any, **options: Any) -> Any:
        raise WorkbenchError("There is no GPU any more.")

    monkeypatch.setattr(Measure, "start_profile", refused)
    assert wait_for(lambda: not panel.button.disabled)
    panel.button.click()
    assert wait_for(lambda: "Failed" in panel.work.status.value)
    assert "no GPU any more" in panel.error

    def breaks(self: Session, engine: Any, **options: Any) -> Any:
        raise OSError("a disk that is full")

    monkeypatch.setattr(Measure, "start_profile", breaks)
    assert wait_for(lambda: not panel.button.disabled)
    panel.work.status.value = ""
    panel.button.click()
    assert wait_for(lambda: "Failed" in panel.work.status.value)
    assert "a disk that is full" in panel.error


def test_the_code_says_what_was_measured(can_measure: Any) -> None:
    panel, _ = can_measure(_Job())
    panel.form.transfers.value = True
    panel.button.click()
    assert wait_for(lambda: "Measured" in panel.work.status.value)
    profiles.measure(panel._engine)
    profiles.tell(panel.session, panel._engine)
    panel.form.transfers.value = False  # for the next time
    panel.session.selection = panel._engine.plan.layers[0].id
    assert "session.measure.profile(engine, transfers=True)" in panel.code
    panel.show_engine(None)
    panel.show_engine(panel.session.engines.current)
    assert "session.measure.profile(" not in panel.code


def test_another_engine_chosen_while_one_is_measured(fresh: Session, can_measure: Any) -> None:
    measured = fresh.engines[-1]
    other = fresh.build("attention", compiler="fake", precision="fp16")
    fresh.engines.current = measured
    job = _Job(ends=False)
    panel, _ = can_measure(job)
    panel.button.click()
    assert wait_for(lambda: panel.work.bars.children)
    panel.session.engines.current = other
    job.end()
    assert wait_for(lambda: "Measured" in panel.work.status.value)
    assert measured.id[:6] in panel.work.status.value


def test_the_engine_held_against_stays_chosen(fresh: Session) -> None:
    fresh.build("attention", compiler="fake", precision="fp16")
    shown = fresh.build("attention", compiler="fake", precision="bf16")
    panel = fresh.panel("engine")
    panel._tabs.selected_index = panel._tabs._names.index("Compare")
    oldest = fresh.engines[0]
    panel.other.value = oldest.key
    panel._tabs.renew("Compare")
    assert panel.other.value == oldest.key
    assert shown.key == panel._engine.key


def test_a_record_without_layers_shows_the_plans(fresh: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.engine import Engine

    engine = fresh.engines[-1]
    kept = engine.record
    monkeypatch.setattr(Engine, "record", property(lambda _: {**kept, "layers": []}))
    panel = fresh.panel("engine")
    panel._tabs.selected_index = panel._tabs._names.index("Layers")
    fresh.selection = engine.plan.layers[2].id
    assert "has nothing about this layer" in panel._raw.value
    assert engine.plan.layers[2].id in panel._raw.value
