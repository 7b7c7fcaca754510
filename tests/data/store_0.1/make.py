"""Make ``store.tar.xz``: a store that version 0.1.0 wrote, for the tests that open and migrate it.

    python tests/data/store_0.1/make.py

Run it only at commit 7619e58, with this file and ``tests/support`` added. It imports the modules of that commit. A later
commit writes a later format, and the archive would no longer be what it is kept for.

Everything is made below one fixed folder, `PLACE`, with copies of the code and the sample models, so that no path of
the machine gets into the archive. The script empties the ``engine`` files of TensorRT for RTX: they hold NVIDIA's
compiled code. `tests/support/store_0_1.py` unpacks the archive.
"""
# ruff: noqa: I001 - some modules that it imports are only in that commit

from __future__ import annotations

import contextlib
import json
import lzma
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

PLACE = Path("/tmp/workbench-store-0.1")
ROOT = Path(__file__).resolve().parents[3]
ARCHIVE = Path(__file__).with_name("store.tar.xz")
KEPT_SAMPLES = ("pointwise_chain.onnx", "unfusable.onnx", "unsupported.onnx")


def fill() -> None:
    """Make the sessions. This runs in a process that imports the copy of the code in `PLACE`."""
    import numpy as np

    from tests.support import profiles
    from tests.support.small_models import mlp, save
    from workbench import BuildConfig, Session, ShapeProfile
    from workbench.errors import BuildError, CancelledError
    from workbench.events import Selection

    rtx = {"compiler": "tensorrt_rtx", "target": "sm89"}
    other = Session("elsewhere", store=PLACE / "other")
    other.build("unfusable", **rtx)
    other.select(Selection("layer", (other.engine().plan.layers[0].id,)))
    other.export(PLACE / "elsewhere.zip")
    other.close()

    session = Session("lab", store=PLACE / "home")
    session.add("pointwise_chain")
    session.add("unfusable", name="unfusable, renamed")
    session.add(save(mlp("n"), PLACE / "models" / "mlp.onnx"))
    session.add(save(mlp(2), PLACE / "models" / "removed.onnx"))
    session.remove("removed")

    chain = session.build("pointwise_chain", **rtx)
    session.build("unfusable, renamed", **rtx, precision="fp16")
    session.build("mlp", **rtx, shapes={"x": "1x8:4x8:8x8"})
    two = tuple(ShapeProfile.parse([text]) for text in ("x=1x8:1x8:4x8", "x=8x8:16x8:32x8"))
    session.build("mlp", BuildConfig(compiler="tensorrt_rtx", targets="sm89", profiles=two, workspace=1 << 28))
    session.build("pointwise_chain", compiler="fake")
    for model, options in (("unsupported", rtx), ("pointwise_chain", {"compiler": "fake", "flags": ("fail",)})):
        try:
            session.build(model, **options)
        except BuildError:
            pass
        else:
            raise SystemExit(f"{model} was built, though the archive needs a failed build of it")
    hanging = session.start_build("pointwise_chain", compiler="fake", flags=("hang",))
    hanging.cancel()
    with contextlib.suppress(CancelledError):
        hanging.result(60)

    session.cast("mlp", "fp16", keep=["mm2"])
    data = np.random.default_rng(0).standard_normal((16, 8)).astype("float32")
    session.calibrate("mlp", data)
    session.quantize("mlp", data, to="int8")
    session.build("mlp-int8", **rtx, shapes={"x": "4x8"})
    session.accuracy("mlp-int8", data)
    profiles.measure(chain)
    profiles.tell(session, chain)

    session.current = chain
    layers = [layer.id for layer in chain.plan.layers]
    nodes = [node for layer in chain.plan.layers for node in layer.nodes]
    for ids in (layers[:1], nodes[:1], nodes[1:4], None, layers[-1:]):
        session.selection = ids
    Session.import_(PLACE / "elsewhere.zip", "lab", store=session.store).close()
    session.close()


def describe() -> dict[str, object]:
    """What is in the store, for tests to compare with."""
    from workbench import Session

    found: dict[str, object] = {}
    for name in Session("lab", store=PLACE / "home").store.sessions():
        session = Session(name, store=PLACE / "home")
        current = session.current
        found[name] = {
            "models": {n: {"sha256": m.sha256(session.store), "kind": m.origin["kind"]} for n, m in session.models.items()},
            "engines": [
                {"key": e.key, "model": e.model, "config": e.config.to_dict(), "layers": [la.id for la in e.plan.layers],
                 "profiles": len(e.profiles), "trusted": e.trusted, "errors": e.errors is not None}
                for e in session.engines
            ],
            "failures": [{"model": f.model, "code": f.code, "message": f.message} for f in session.failures],
            "current": None if current is None else current.key,
            "selection": {"kind": session.selection.kind, "ids": list(session.selection.ids)},
            "events": [event.kind for event in session.events],
        }  # fmt: skip
        session.close()
    return found


def pack() -> None:
    """Write `PLACE` into the archive, without the code and without NVIDIA's."""
    for folder in (PLACE / "home" / "builds").iterdir():
        engine = folder / "engine"
        if json.loads((folder / "record.json").read_text())["compiler"]["name"] != "fake":
            engine.write_bytes(bytes(engine.stat().st_size))
    for database in (PLACE / "home").rglob("*.db"):
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    shutil.rmtree(PLACE / "other")
    (PLACE / "elsewhere.zip").unlink()
    for file in (PLACE / "code").rglob("*"):
        if file.is_file() and file.name not in KEPT_SAMPLES:
            file.unlink()
    with lzma.open(ARCHIVE, "wb", preset=9 | lzma.PRESET_EXTREME) as out, tarfile.open(fileobj=out, mode="w") as tar:
        for file in sorted(p for p in PLACE.rglob("*") if p.is_file()):
            if file.parent.name in {"locks", "tmp"} or file.name.endswith(("-wal", "-shm")):
                continue
            entry = tar.gettarinfo(file, str(file.relative_to(PLACE)))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            with file.open("rb") as data:
                tar.addfile(entry, data)


def main() -> None:
    if sys.argv[1:] == ["fill"]:
        fill()
        (PLACE / "contents.json").write_text(json.dumps(describe(), indent=1))
        return
    if PLACE.exists():
        raise SystemExit(f"{PLACE} exists; remove it first")
    code = PLACE / "code"
    for name in ("workbench", "tests", "sample_models"):
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__", "*.xz"))
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, __file__, "fill"], cwd=PLACE, env=environment, check=True)
    pack()
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
