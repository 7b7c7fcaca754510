"""A worker task that serves a fake engine on a fake GPU: y = x + 1."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.fake_gpu import Engine, Pretended, pretend
from tests.support.fake_tensorrt import State
from workbench.compilers.tensorrt.serve import serve

CRASH = 666.0
"""A first value that ends the worker in the middle of an execution, as a bad kernel does."""


HANG = 667.0
"""A first value at which the execution never ends."""


class Fragile(Pretended):
    def upload(self, array: np.ndarray, dtype: str) -> np.ndarray:
        if array.flat[0] == CRASH:
            os.abort()
        while array.flat[0] == HANG:
            time.sleep(1)
        return super().upload(array, dtype)

    def facts(self) -> dict[str, Any]:
        return {"name": "pretended", "sm": "sm89"}


def on_version(reporter: Any, version: str, **arguments: Any) -> dict[str, Any]:
    device = Fragile()
    engine = Engine(version, device)
    engine.profiles, engine.streamable = 2, 1000
    module = pretend(version, engine, State(""), lambda mapping, key, value: mapping.update({key: value}))
    arguments |= {"module": module.__name__, "built": None, "device": device}
    Path(arguments["engine"]).with_name("worker.pid").write_text(str(os.getpid()))
    print(sys.version)  # must not reach the protocol
    return serve(reporter, **arguments)


def on_10(reporter: Any, **arguments: Any) -> dict[str, Any]:
    return on_version(reporter, "10", **arguments)


def on_11(reporter: Any, **arguments: Any) -> dict[str, Any]:
    return on_version(reporter, "11", **arguments)


def on_rtx(reporter: Any, **arguments: Any) -> dict[str, Any]:
    return on_version(reporter, "rtx", **arguments)
