"""The runner of long work in panels: progress, Cancel, errors, and what happens when its panel is closed."""

from __future__ import annotations

import threading
from typing import Any

import ipywidgets
import pytest

from tests.support import SAMPLES, gone, wait_for
from workbench import Session
from workbench.core.errors import CancelledError, WorkbenchError
from workbench.core.jobs import Job
from workbench.panels.base import Panel
from workbench.panels.work import Work


def hanging() -> Job:
    return Job("tests.support.worker_tasks:hang", {}, title="<b>long</b> work")


@pytest.fixture
def panel(session: Session) -> Panel:
    made = Panel(session, engines=False)
    made.button, made.model = ipywidgets.Button(), ipywidgets.Dropdown()
    made.work = Work(made, [made.button], hold=[made.model])
    made.body.children = [made.work.row(), made.model]
    return made


def test_progress_is_drawn_and_cleared(panel: Any) -> None:
    work, jobs = panel.work, []

    def run() -> str:
        jobs.append(hanging())
        return str(work.result_of(jobs[0].start()))

    work.run(run, "begun")
    assert work.status.value == "begun"
    assert panel.button.disabled
    assert panel.model.disabled
    assert not work.cancel.disabled
    assert wait_for(lambda: work.bars.children)
    assert "&lt;b&gt;long&lt;/b&gt; work" in work.status.value
    assert "Hanging" in work.status.value
    work.cancel.click()
    work.wait()
    assert jobs[0].status == "cancelled"
    assert "Canceled" in work.status.value
    assert work.bars.children == ()
    assert panel.error == ""
    assert not panel.button.disabled
    assert not panel.model.disabled
    assert work.cancel.disabled


def test_a_build_is_watched_like_a_job(session: Session, panel: Any) -> None:
    session.add(SAMPLES / "attention.onnx", name="m")
    work = panel.work

    def run() -> str:
        return work.result_of(session.engines.start("m", compiler="fake", flags=("hang",))).id

    work.run(run, "begun")
    assert wait_for(lambda: "Build of m" in work.status.value)
    work.cancel.click()
    work.wait()
    assert "Canceled" in work.status.value
    assert session.engines.running == []
    work.run(lambda: work.result_of(session.engines.start("m", compiler="fake")).id, "begun")
    work.wait()
    assert work.status.value == session.engines[-1].id


def test_one_at_a_time(panel: Any) -> None:
    go = threading.Event()
    panel.work.run(lambda: str(go.wait(20)), "begun")
    with pytest.raises(WorkbenchError) as info:
        panel.work.run(lambda: "again", "begun")
    assert info.value.code == "busy"
    go.set()
    panel.work.wait()
    assert panel.work.status.value == "True"


def test_an_error_is_shown_and_the_next_run_clears_it(panel: Any) -> None:
    def fails() -> str:
        raise ZeroDivisionError("no such thing")

    panel.work.run(fails, "begun")
    panel.work.wait()
    assert "no such thing" in panel.error
    assert "Failed" in panel.work.status.value
    panel.work.run(lambda: "done", "begun", about=lambda: "of m")
    panel.work.wait()
    assert panel.error == ""
    assert panel.work.status.value == "done <span class='wbp-quiet'>of m</span>"


def test_cancel_before_anything_is_watched(panel: Any) -> None:
    go, work = threading.Event(), panel.work

    def run() -> str:
        go.wait(20)
        return str(work.result_of(hanging()))

    work.run(run, "begun")
    work.cancel.click()
    go.set()
    work.wait()
    assert "Canceled" in work.status.value


def test_blocked_buttons_stay_disabled(panel: Any) -> None:
    work = panel.work
    work.block("No GPU.")
    assert panel.button.disabled
    assert work.status.value == "No GPU."
    work.block("")
    go = threading.Event()
    work.run(lambda: str(go.wait(20)), "begun")
    work.block("No GPU.")
    assert work.status.value == "begun"
    go.set()
    work.wait()
    assert panel.button.disabled
    assert work.cancel.disabled


def test_closing_the_panel_cancels_its_work(panel: Any) -> None:
    work, jobs = panel.work, []

    def run() -> str:
        jobs.append(hanging())
        return str(work.result_of(jobs[0]))

    work.run(run, "begun")
    assert wait_for(lambda: jobs and jobs[0].progress)
    pid = jobs[0].pid
    panel.close()
    work.wait()
    assert isinstance(jobs[0].error, CancelledError)
    assert gone(pid)
    assert not work.busy
    assert panel.error == ""
    assert "Canceled" not in work.status.value  # nothing is drawn on a closed panel


@pytest.mark.parametrize(
    "name", ["build", "model", "profile", "engine", "checks", "precision", "calibration", "sensitivity"]
)
def test_closing_any_panel_cancels_what_it_runs(name: str, built: Session) -> None:
    panel = built.panel(name)
    job = hanging()
    panel.work.run(lambda: str(panel.work.result_of(job)), "begun")
    assert wait_for(lambda: job.progress)
    panel.close()
    panel.work.wait()
    assert job.status == "cancelled"
