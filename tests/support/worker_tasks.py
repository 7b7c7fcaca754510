"""Tasks that a worker runs in the tests of `workbench.core.jobs`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from workbench.core.errors import ModelError


def add(reporter: Any, *, a: int, b: int = 0) -> dict[str, Any]:
    for i in range(3):
        reporter.progress("Adding", i + 1, 3)
    print("this must not reach the protocol")
    os.write(1, b"nor this\n")
    return {"sum": a + b, "pid": os.getpid()}


def steps(reporter: Any, *, count: int) -> dict[str, Any]:
    for i in range(count):
        reporter.progress("Counting", i + 1, count)
    return {}


def hang(reporter: Any, *, child: bool = False) -> dict[str, Any]:
    pid = 0
    if child:
        pid = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid
    reporter.progress(f"Hanging {pid}", 0, 1)
    time.sleep(600)
    return {}


def refuse(reporter: Any) -> dict[str, Any]:
    raise ModelError("It is no good.", hint="Try another.", details={"why": [1, 2]})


def fault(reporter: Any) -> dict[str, Any]:
    return {"x": 1 // 0}


def die(reporter: Any, *, code: int) -> dict[str, Any]:
    sys.stderr.write("my last words\n")
    sys.stderr.flush()
    os._exit(code)


def full(reporter: Any) -> dict[str, Any]:
    raise OSError(28, "No space left on device")


def hungry(reporter: Any) -> dict[str, Any]:
    raise MemoryError


def crowded(reporter: Any) -> dict[str, Any]:
    raise RuntimeError(
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call"
    )


def unanswerable(reporter: Any) -> Any:
    return {"x": object()}


def measured(reporter: Any, *, folder: str, file: str, **arguments: Any) -> dict[str, Any]:
    """In place of `workbench.compilers.tensorrt.profile:profile`: what it was asked, kept where a profile is kept."""
    reporter.progress("Measuring latency (plain)", 1, 1)
    inputs = dict(np.load(arguments["inputs"])) if arguments.get("inputs") else {}
    strategy = arguments.get("specialization", "eager") if arguments.get("shapes") else None
    ms = {None: 2.0, "eager": 3.0, "none": 4.5}[strategy]
    way = {"mean_ms": ms, "median_ms": ms, "p90_ms": ms, "p99_ms": ms, "iterations": 1}
    document = {
        "schema": "workbench.profile/1",
        "layers": [],
        "layer_iterations": 0,
        "device": {},
        "machine": {},
        "memory": {},
        "notes": [],
        "shapes": {},
        **arguments,
        "specialization": strategy,
        "sums": {n: float(v.sum()) if v.dtype.kind == "f" else None for n, v in inputs.items()},
        "latency": {"plain": way},
        "error": None,
    }
    Path(folder).mkdir(exist_ok=True)
    (Path(folder) / file).write_text(json.dumps(document))
    return document


def hold_the_interpreter(reporter: Any) -> dict[str, Any]:
    reporter.progress("Holding", 0, 1)
    return {"sum": sum(range(10**15))}  # one call in C: no other thread of this process runs meanwhile


def place(reporter: Any) -> dict[str, Any]:
    return {"folder": str(Path.cwd()), "path": sys.path, "modules": sorted(sys.modules)}


def build_each(reporter: Any, *, models: list[dict[str, Any]], folder: str) -> dict[str, Any]:
    """Build several models in this one worker: the error of each as a dict, None where it was built."""
    from workbench.compilers.tensorrt.build import build
    from workbench.core.errors import WorkbenchError

    found: dict[str, Any] = {}
    for each in models:
        try:
            build(reporter, module="tensorrt_rtx", model=each["model"], config=each["config"], folder=folder)
            found[each["name"]] = None
        except WorkbenchError as error:
            found[each["name"]] = error.to_dict()
    return {"errors": found}


# Tasks of `jobs.guarded`, which get no reporter.


def quick(**arguments: Any) -> dict[str, Any]:
    return {**arguments, "pid": os.getpid()}


def slow(seconds: float) -> dict[str, Any]:
    time.sleep(seconds)
    return {}


def take_memory(size: int) -> dict[str, Any]:
    return {"size": len(bytearray(size))}


def crash(number: int = 11) -> dict[str, Any]:
    os.kill(os.getpid(), number)
    return {}


def complain() -> dict[str, Any]:
    raise ModelError("It is no good.", code="no-good")


def shape_tensors(_reporter: Any, *, module: str, files: list[str]) -> dict[str, Any]:
    """Which inputs TensorRT's network reads as shapes, by file; None where its parser refuses the file."""
    from workbench.compilers.tensorrt.build import load

    trt = load(module)
    found: dict[str, Any] = {}
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    for file in files:
        builder = trt.Builder(logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        taken = parser.parse_from_file(file)
        tensors = [network.get_input(i) for i in range(network.num_inputs)]
        found[Path(file).stem] = sorted(t.name for t in tensors if t.is_shape_tensor) if taken else None
    return found
