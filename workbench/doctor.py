"""Check what this machine and installation can do; give a command for each missing part."""

from __future__ import annotations

import platform
import shutil
from typing import Any

from workbench import __version__, compilers
from workbench.compilers.base import Diagnoses, Examines, offered
from workbench.core.errors import WorkbenchError
from workbench.core.jobs import Job
from workbench.core.store import Store
from workbench.hardware.machine import gpus, installed, machine


def examine() -> dict[str, Any]:
    """Run all checks.

    Returns:
        ``checks``: rows of ``what``, ``state`` (yes, partly, no), ``found``, ``command``;
        ``can_build``: whether a model can be built here; ``machine``, ``version``, ``compilers``.
    """
    checks: list[dict[str, Any]] = []

    def add(what: str, state: str, found: str, command: str | None = None) -> None:
        checks.append({"what": what, "state": state, "found": found, "command": command})

    add(
        "workbench",
        "yes",
        f"{__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )
    features: dict[str, Any] = {}
    can_build = False
    shown: set[str] = set()
    for name in compilers.compilers():
        info = compilers.info_of(name)
        if (
            name == "fake" or info.name in shown
        ):  # "fake" is for tests and demos; two names can refer to the same compiler
            continue
        shown.add(info.name)
        if info.error is not None:
            add(info.name, "no", info.error, "reinstall or remove the package that adds it")
            continue
        if info.version is None:
            add(info.name, "no", "not installed", info.install)
            continue
        can_build = can_build or info.available
        compiler = compilers.find(name, Examines)
        found: dict[str, Any] = {"version": info.version, "targets": [str(t) for t in info.targets]}
        if compiler is not None:
            try:
                found = Job(compiler.examine_task, compiler.arguments(), time_limit=60).result()
            except WorkbenchError as error:
                add(info.name, "no", error.message.splitlines()[0], error.hint)
                continue
        features[info.name] = found
        own = offered(compilers.get(name))
        missing = {ability: why for ability, why in info.missing.items() if ability in own}
        cannot = ", ".join(f"{ability.value} ({why})" for ability, why in missing.items())
        add(
            info.name, "partly" if missing else "yes",
            f"{found['version']}, builds for {', '.join(found['targets'])}" + (f"; not here: {cannot}" if cannot else "")
            + "".join(f". {note.rstrip('.')}" for note in info.notes),
        )  # fmt: skip
        diagnoses = compilers.find(name, Diagnoses)
        if diagnoses is not None:
            built = {"name": info.name, "target": "+".join(found["targets"])}
            for target, issue in diagnoses.known_issues(built).items():
                add(f"target {target}", "partly", issue)
    if gpus():
        for gpu in gpus():
            memory = f"{gpu.memory / 1e9:.0f} GB" if gpu.memory else "memory shared with the system"
            add(
                "GPU",
                "yes",
                f"{gpu.name} ({gpu.sm}), {memory}, driver {gpu.driver}",
            )
    else:
        add(
            "GPU",
            "no",
            "no NVIDIA driver found: you can build and inspect engines for GPUs here, but not run or time them",
        )
    for package, why, command in (
        ("torch", "models from PyTorch, source lines", "pip install 'trt-workbench[torch]'"),
        ("onnxscript", "models from PyTorch", "pip install 'trt-workbench[torch]'"),
        ("jupyterlab", "notebooks", "pip install 'trt-workbench[lab]'"),
        ("ipywidgets", "panels", "pip install 'trt-workbench[lab]'"),
        ("netron", "the raw ONNX view", "pip install 'trt-workbench[lab]'"),
    ):
        if (there := installed(package)) is None:
            add(package, "no", f"not installed; for {why}", command)
        else:
            add(package, "yes", there)
    try:
        store = Store()
        free = shutil.disk_usage(store.path).free
        add("store", "yes" if free > 2e9 else "partly", f"{store.path}, {free / 1e9:.0f} GB free",
            None if free > 2e9 else "export WORKBENCH_HOME=/larger/disk")  # fmt: skip
    except WorkbenchError as error:
        add("store", "no", error.message, error.hint)
    return {
        "version": __version__,
        "machine": machine(),
        "can_build": can_build,
        "compilers": features,
        "checks": checks,
    }
