"""Jobs: progress, answers, errors, cancel, crash, time limit, and a parent that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support import ROOT, gone, wait_for
from workbench.core import jobs, limits
from workbench.core.errors import (
    CancelledError,
    ConfigError,
    LimitError,
    ModelError,
    StoreError,
    TimeLimitError,
    WorkbenchError,
    WorkerCrashedError,
)
from workbench.core.jobs import Job


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def job(name: str, **options: object) -> Job:
    arguments = options.pop("arguments", {})
    return Job(f"tests.support.worker_tasks:{name}", arguments, title=name, **options)  # type: ignore[arg-type]


def test_answer_progress_and_listeners() -> None:
    seen: list[tuple[str, int]] = []
    work = job("add", arguments={"a": 2})
    work.on_change(lambda j: seen.append((j.status, sum(p.done for p in j.progress))))
    answer = work.start(b=3).result()
    assert answer["sum"] == 5
    assert answer["pid"] == work.pid != os.getpid()
    assert work.status == "done"
    assert wait_for(lambda: seen and seen[-1] == ("done", 3))
    assert [status for status, _ in seen].count("done") == 1
    assert "nor this" in work.output
    assert work.result() == answer


def test_progress_is_thinned_but_its_end_never_dropped() -> None:
    seen: list[int] = []
    work = job("steps", arguments={"count": 20_000})
    work.on_change(lambda j: seen.append(j.progress[-1].done) if j.progress else None)
    work.result()
    assert seen[-1] == 20_000
    assert len(seen) < 1000


def test_an_error_keeps_its_class_hint_and_details() -> None:
    work = job("refuse")
    with pytest.raises(ModelError, match="It is no good") as info:
        work.result()
    assert info.value.hint == "Try another."
    assert info.value.details == {"why": [1, 2]}
    assert work.status == "failed"


@pytest.mark.parametrize(
    ("task", "error", "told"),
    [("fault", WorkbenchError, "ZeroDivisionError"), ("full", StoreError, "disk is full"),
     ("hungry", WorkbenchError, "out of memory"), ("unanswerable", WorkbenchError, "TypeError"),
     ("absent", WorkbenchError, "absent"), ("crowded", WorkbenchError, "GPU has too little free memory")],
)  # fmt: skip
def test_other_ends(task: str, error: type, told: str) -> None:
    with pytest.raises(error, match=told):
        job(task).result()


def test_a_worker_that_exits_is_a_crash_with_its_last_words() -> None:
    with pytest.raises(WorkerCrashedError, match="exited with code 7") as info:
        job("die", arguments={"code": 7}).result()
    assert "my last words" in info.value.message
    assert info.value.details["code"] == 7


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_is_a_crash(how: signal.Signals) -> None:
    work = job("hang").start()
    assert wait_for(lambda: work.progress)
    os.kill(work.pid, how)
    with pytest.raises(WorkerCrashedError, match=how.name):
        work.result(10)


@pytest.mark.serial
def test_cancel_ends_the_worker_and_its_children() -> None:
    calls: list[str] = []
    work = job("hang", arguments={"child": True})
    work.on_change(lambda j: calls.append(j.status))
    work.start()
    assert wait_for(lambda: work.progress)
    child = int(work.progress[0].phase.split()[1])
    begin = time.monotonic()
    work.cancel()
    with pytest.raises(CancelledError):
        work.result(10)
    assert wait_for(lambda: gone(work.pid) and gone(child), 2)
    assert time.monotonic() - begin < 2
    assert wait_for(lambda: calls[-1] == "cancelled")
    assert calls.count("cancelled") == 1
    work.cancel()  # again is no error


def test_cancel_before_start_and_start_after_cancel() -> None:
    work = job("add", arguments={"a": 1})
    work.cancel()
    assert work.status == "cancelled"
    assert wait_for(lambda: gone(work.pid), 2)
    with pytest.raises(CancelledError):
        work.start().result(5)


def test_arguments_that_can_not_be_sent_leave_no_worker() -> None:
    made = job("add", arguments={"a": object()})
    with pytest.raises(ConfigError, match="can't be sent"):
        made.start()
    assert made.status == "cancelled"
    assert gone(made.pid)


def test_cancel_after_the_end_changes_nothing() -> None:
    work = job("add", arguments={"a": 1})
    work.result()
    work.cancel()
    assert work.status == "done"
    assert work.result()["sum"] == 1


def test_the_time_limit_ends_the_worker() -> None:
    work = job("hang", time_limit=0.5)
    with pytest.raises(TimeLimitError, match=r"0\.5 s"):
        work.result(10)
    assert wait_for(lambda: gone(work.pid), 2)
    assert work.status == "failed"


def test_waiting_for_less_than_it_takes() -> None:
    work = job("hang").start()
    with pytest.raises(TimeoutError):
        work.result(0.1)
    assert work.status == "running"
    work.cancel()


def test_a_listener_that_raises_does_not_stop_the_job() -> None:
    heard: list[str] = []

    def bad(_job: Job) -> None:
        raise RuntimeError("a view of mine broke")

    work = job("add", arguments={"a": 1})
    work.on_change(bad)
    work.on_change(lambda j: heard.append(j.status))
    assert work.result(20)["sum"] == 1
    assert wait_for(lambda: heard and heard[-1] == "done")


PARENT = """
import os, sys, time
from workbench.core.jobs import Job
how = sys.argv[1]
job = Job("tests.support.worker_tasks:hold_the_interpreter" if how == "busy" else "tests.support.worker_tasks:hang", {})
if how != "waiting":
    job.start()
    while not job.progress:
        time.sleep(0.01)
if how == "forked" and os.fork() == 0:  # as a DataLoader does; the child holds the worker's pipes
    time.sleep(20)
    os._exit(0)
print(job.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("state", ["started", "waiting", "forked", "busy"])
def test_a_worker_whose_parent_dies_ends_too(state: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    assert wait_for(lambda: gone(pid), 5)


def test_a_module_that_breaks_while_it_is_preloaded_is_reported_by_the_task(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "broken_module.py").write_text("raise OSError('libsomething.so.1: cannot open')")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    assert job("add", arguments={"a": 1}, preload=("broken_module", "no_such_module")).result()["sum"] == 1


def test_the_worker_log_is_kept_in_the_folder(tmp_path: Path) -> None:
    work = job("add", arguments={"a": 1}, folder=tmp_path / "log")
    work.result()
    assert "nor this" in (tmp_path / "log" / "worker.log").read_text()
    assert "nor this" in work.output


def test_an_interpreter_that_is_absent() -> None:
    with pytest.raises((WorkbenchError, FileNotFoundError)):
        job("add", python="/nowhere/python").result()


def test_many_jobs_at_once() -> None:
    jobs = [job("add", arguments={"a": i}) for i in range(6)]
    threads = [threading.Thread(target=j.start) for j in jobs]
    for thread in threads:
        thread.start()
    assert [j.result()["sum"] for j in jobs] == list(range(6))
    for thread in threads:
        thread.join()


def test_a_worker_outlives_the_thread_that_started_it() -> None:
    made: list[Job] = []
    thread = threading.Thread(target=lambda: made.append(job("add", arguments={"a": 1})))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert made[0].result(20)["sum"] == 1


def test_a_worker_imports_nothing_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("queue", "psutil", "onnx", "tensorrt_rtx", "workbench"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'CALLED')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}")  # an empty entry means the working directory
    found = job("place", preload=("onnx", "tensorrt_rtx")).result()
    assert not (tmp_path / "CALLED").exists()
    assert not {"", ".", str(tmp_path)} & set(found["path"])
    assert found["folder"] == "/"
    assert jobs.guarded("tests.support.worker_tasks:quick", {"a": 1}, title="reading")["a"] == 1
    assert not (tmp_path / "CALLED").exists()


def test_a_relative_module_path_is_that_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}lib")
    assert str(tmp_path / "lib") in job("place").result()["path"]


def test_guarded_uses_one_worker_again_and_again() -> None:
    first = jobs.guarded("tests.support.worker_tasks:quick", {"a": 1}, title="reading")
    second = jobs.guarded("tests.support.worker_tasks:quick", {"a": 2}, title="reading")
    assert (first["a"], second["a"]) == (1, 2)
    assert first["pid"] == second["pid"] != os.getpid()


def test_guarded_stops_what_takes_too_long() -> None:
    with pytest.raises(LimitError) as info:
        jobs.guarded("tests.support.worker_tasks:slow", {"seconds": 60}, title="reading x.onnx", seconds=0.3)
    assert info.value.code == "limit-reader-seconds"
    assert info.value.message.startswith("Reading x.onnx took longer than 0.3 s")
    assert "WORKBENCH_LIMIT_READER_SECONDS" in str(info.value.hint)
    assert jobs.guarded("tests.support.worker_tasks:quick", {"a": 1}, title="reading")["a"] == 1


def test_guarded_stops_what_takes_too_much_memory() -> None:
    with pytest.raises(LimitError) as info:
        jobs.guarded(
            "tests.support.worker_tasks:take_memory", {"size": 3_000_000_000}, title="reading x.onnx", memory=2e9
        )
    assert info.value.code == "limit-reader-bytes"
    assert (
        jobs.guarded("tests.support.worker_tasks:take_memory", {"size": 1000}, title="reading x.onnx", memory=2e9)[
            "size"
        ]
        == 1000
    )


def test_guarded_survives_a_crash_and_hands_on_errors() -> None:
    with pytest.raises(WorkerCrashedError, match=r"Reading x\.onnx crashed"):
        jobs.guarded("tests.support.worker_tasks:crash", {}, title="reading x.onnx")
    with pytest.raises(ModelError) as info:
        jobs.guarded("tests.support.worker_tasks:complain", {}, title="reading x.onnx")
    assert info.value.code == "no-good"


def test_a_limit_is_raised_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LimitError) as info:
        limits.check("NESTING", 1000, "The model m.onnx")
    assert info.value.code == "limit-nesting"
    assert "WORKBENCH_LIMIT_NESTING" in str(info.value.hint)
    monkeypatch.setenv("WORKBENCH_LIMIT_NESTING", "1e4")
    limits.check("NESTING", 1000, "The model m.onnx")
    monkeypatch.setenv("WORKBENCH_LIMIT_NESTING", "many")
    with pytest.raises(ConfigError) as wrong:
        limits.check("NESTING", 1000, "The model m.onnx")
    assert wrong.value.code == "limit-invalid"


def test_an_error_keeps_its_code_across_the_pipe() -> None:
    assert WorkbenchError.from_dict(ModelError("x", code="not-onnx").to_dict()).code == "not-onnx"
    assert WorkbenchError.from_dict({"kind": "ModelError", "message": "x"}).code == "model"
    assert StoreError("x").code == "store"


def test_a_worker_that_was_killed_is_no_fault_of_the_file() -> None:
    with pytest.raises(WorkerCrashedError) as info:
        jobs.guarded("tests.support.worker_tasks:crash", {"number": signal.SIGKILL}, title="reading x.onnx")
    assert info.value.code == "worker-killed"
    assert "damaged" not in str(info.value)


def test_a_question_that_was_interrupted_leaves_no_worker_with_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: Job, message: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(message.encode()[:20])
        self._process.stdin.flush()
        raise KeyboardInterrupt

    jobs.guarded("tests.support.worker_tasks:quick", {"a": 0}, title="reading")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Job, "_write", half)
        jobs.guarded("tests.support.worker_tasks:quick", {"a": 1}, title="reading")
    assert jobs.guarded("tests.support.worker_tasks:quick", {"a": 2}, title="reading", seconds=30)["a"] == 2


FORKS = """
import os, signal, sys
from workbench.core import jobs, spawn
jobs.guarded("tests.support.worker_tasks:quick", {}, title="reading")
jobs._idle_lock.acquire(); spawn._starter_lock.acquire()  # as another thread may hold them at this moment
if os.fork() == 0:
    signal.alarm(30)
    print(jobs.guarded("tests.support.worker_tasks:quick", {"a": 5}, title="reading")["a"], flush=True)
    os._exit(0)
os.wait()
"""


def test_a_forked_child_has_workers_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.stdout == "5\n", done.stderr


def test_a_limit_answers_numbers_that_no_float_holds() -> None:
    with pytest.raises(LimitError, match="more than 1e18"):
        limits.check("TENSOR_ELEMENTS", 10**400, "The shape of x")


def test_a_job_says_what_it_does_and_why_it_failed() -> None:
    work = job("refuse")
    assert (work.message, work.error, work.progress) == ("", None, [])
    with pytest.raises(ModelError):
        work.result()
    assert work.error is not None
    assert work.error.code == "model"
    counting = job("steps", arguments={"count": 3})
    counting.result()
    assert (counting.message, counting.error) == ("Counting", None)


def test_hints_for_the_shell_survive_the_worker() -> None:
    error = ModelError("It is no good.", hint='precision="fp16"', shell_hint="--precision fp16")
    again = ModelError.from_dict(error.to_dict())
    assert (again.hint, again.shell_hint) == (error.hint, error.shell_hint)
    assert str(again) == 'It is no good.\nprecision="fp16"'
    assert "shell_hint" not in ModelError("It is no good.").to_dict()
