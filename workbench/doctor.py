"""What this machine and install can do, and the command for each thing that is missing."""

from __future__ import annotations

import platform
import shutil
from typing import Any

from workbench import __version__, compilers
from workbench.core.errors import WorkbenchError
from workbench.core.jobs import Job
from workbench.core.store import Store
from workbench.hardware.machine import gpus, installed, machine


def examine() -> dict[str, Any]:
    """Look at everything.

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
    infos = [info for info in compilers.describe() if info.name != "fake"]
    can_build = False
    for info in infos:
        if info.version is None:
            add(info.name, "no", "not installed", info.install)
            continue
        try:
            found = Job("workbench.compilers.tensorrt.build:features", {"module": info.name}, time_limit=60).result()
        except WorkbenchError as error:
            add(info.name, "no", error.message.splitlines()[0], error.hint)
            continue
        features[info.name] = found
        can_build = can_build or info.available
        cannot = ", ".join(f"{a.value} ({why})" for a, why in info.missing.items())
        add(
            info.name, "yes" if not info.missing else "partly",
            f"{found['version']}, builds for {', '.join(found['targets'])}" + (f"; not here: {cannot}" if cannot else ""),
        )  # fmt: skip
    from workbench.compilers.tensorrt.targets import CAN_NOT, REPORTED

    for target, reported in REPORTED.items():
        if target in features.get("tensorrt_rtx", {}).get("targets", []):
            add(f"target {target}", "partly", f"{reported} {CAN_NOT.get(target, '')}".strip())
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
            "no NVIDIA driver answers: engines can be built and looked at here, not run or timed",
        )
    for package, why, command in (
        ("torch", "models from PyTorch, source lines", "pip install 'trt-workbench[torch]'"),
        ("onnxscript", "models from PyTorch", "pip install 'trt-workbench[torch]'"),
        ("onnxruntime", "checking results", "pip install onnxruntime"),
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
