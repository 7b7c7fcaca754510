"""Golden files: what the plans of many models are, layer by layer, so that a refactor can prove that it changed none.

    python -m tests.golden.plans check                     # the quick cases, which the test suite checks too
    python -m tests.golden.plans check --all               # every case; exports from PyTorch and takes minutes
    python -m tests.golden.plans check --only "bert fp16"  # the cases whose name contains the text
    python -m tests.golden.plans check --all --ignore title,kind
    python -m tests.golden.plans make --all                # write the files again, after an intended change

A file of a group holds a short hash of each layer for each aspect, so that a new title does not hide among new FLOPs.
With ``--full FOLDER``, ``make`` also writes every plan as JSON there and ``check`` shows the values before and now.
With ``--store FOLDER``, ``make`` keeps models and builds there. With ``--reuse FOLDER``, ``check`` takes the models and the
compiler's records from there and only analyzes again, which is much faster than to build.

The compiler is deterministic here: two builds give the same layers, tactics and names of tensors. Only times are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import importlib.metadata
import json
import lzma
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parents[1] / "sample_models"
COMPILER, TARGET = "tensorrt_rtx", "sm89"
LIBRARIES = ("tensorrt_rtx", "onnx", "onnx-ir", "torch", "onnxscript", "transformers")

ASPECTS = {
    "compiler": ("id", "name", "type", "tactic", "stream", "event"),
    "nodes": ("nodes", "merged", "partial", "inferred", "branch", "repeated"),
    "evidence": ("evidence",),
    "tensors": ("inputs", "outputs", "constants"),
    "kind": ("kind",),
    "title": ("title",),
    "costs": ("flops", "bytes_read", "bytes_written", "precision"),
    "sources": ("sources",),
    "lines": ("lines",),
}
"""Aspects of a layer, each with the fields of `layers_of` that it holds."""

OF_PLAN = ("unclaimed", "io", "totals", "texts", "refused")
"""Aspects of a whole plan."""

DIGITS = 5
"""Hexadecimal digits kept of a layer's hash. Each aspect of a plan has a hash of 16 digits over all layers beside them."""

PRECISIONS = ("fp32", "fp16")
OPEN, LENGTHS = "open batch", "open batch and lengths"

MORE = {
    "samples": [("attention", "bf16", ""), ("layernorm_mlp", "bf16", "")],
    "reference": [
        *((name, "fp16", OPEN) for name in ("attention", "conv_bn_relu", "layernorm_mlp", "bert-base")),
        ("resnet50", "fp32", OPEN),
        ("unfusable", "fp32", OPEN),
    ],
    "architectures": [
        *((name, "bf16", "") for name in ("bert", "vit")),
        *((name, "fp16", OPEN) for name in ("bert", "convnext", "deberta-v2", "gru", "llama", "resnet", "swin", "whisper (encoder)")),
        *((name, "fp32", LENGTHS) for name in ("bert", "llama", "poolformer", "segformer", "wav2vec2")),
    ],
}  # fmt: skip
"""Cases beside FP32 and FP16 at fixed shapes, by group: model, precision, and what is open."""

SLOW = {"light_densenet121", "light_inception_v2"}
"""Models of quick groups that are left to ``--all``."""


@dataclass(frozen=True)
class Case:
    """One plan: a model, its precision, and what is open in its shapes."""

    group: str
    model: str
    precision: str
    open: str = ""

    @property
    def name(self) -> str:
        """Its name in the files and for ``--only``."""
        return " ".join(filter(None, (self.model, self.precision, self.open)))

    @property
    def quick(self) -> bool:
        """Whether the test suite checks it."""
        return self.group in {"samples", "light"} and self.model not in SLOW


# --- the cases ------------------------------------------------------------------------------------------------------


@cache
def manifest() -> dict[str, dict[str, Any]]:
    """The sample models by name."""
    return {entry["name"]: entry for entry in json.loads((SAMPLES / "manifest.json").read_text())}


@cache
def light_models() -> dict[str, Path]:
    """The models without weights that the onnx package carries."""
    import onnx

    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return {path.stem: path for path in sorted(folder.glob("light_*.onnx"))}


def cases(*, everything: bool, only: str = "") -> list[Case]:
    """The cases, those of one model behind each other: all of them, or the quick ones."""
    groups = {
        "samples": [n for n, entry in manifest().items() if entry["committed_onnx"]],
        "light": list(light_models()),
        "reference": [n for n, entry in manifest().items() if not entry["committed_onnx"]],
    }
    if everything:
        groups["architectures"] = list(_sweep().ARCHITECTURES)
    found = []
    for group, models in groups.items():
        more = MORE.get(group, [])
        for model in dict.fromkeys([*models, *(m for m, *_ in more)]):
            if model in models:
                found += [Case(group, model, precision) for precision in PRECISIONS]
            found += [Case(group, *row) for row in sorted(more, key=lambda row: row[2]) if row[0] == model]
    return [case for case in found if (everything or case.quick) and only in case.name]


def _sweep() -> Any:
    from tests.benchmarks import sweep_architectures

    return sweep_architectures


def shapes_of(case: Case) -> dict[str, str] | None:
    """The ranges of a case with open shapes."""
    if not case.open:
        return None
    if case.group == "architectures":
        _, inputs = _sweep().ARCHITECTURES[case.model]()
        ranges: dict[str, str] = _sweep().open_shapes(inputs, lengths=case.open == LENGTHS)
        return ranges
    rest = {name: "x".join(map(str, entry["shape"][1:])) for name, entry in manifest()[case.model]["inputs"].items()}
    return {name: f"1x{r}:4x{r}:8x{r}" for name, r in rest.items()}


# --- the only access to workbench -----------------------------------------------------------------------------------


@contextlib.contextmanager
def session_in(home: Path) -> Iterator[Any]:
    """A session in a store."""
    from workbench import Session

    session = Session("golden", store=home)
    try:
        yield session
    finally:
        session.close()


def plan_of(session: Any, case: Case) -> dict[str, Any]:
    """The plan of a case as plain data (see `canonical`), or ``refused`` with the code of the error."""
    from workbench import WorkbenchError

    name, shapes = f"{case.model}|{case.open}" if case.open else case.model, shapes_of(case)
    try:
        if case.group != "architectures":
            session.add(light_models().get(case.model, case.model), name=name, shapes=shapes)
        elif name not in session.models:
            import torch

            torch.manual_seed(0)
            module, inputs = _sweep().ARCHITECTURES[case.model]()
            session.add(module.eval(), inputs, name=name, shapes=shapes)
        plan = session.build(name, compiler=COMPILER, target=TARGET, precision=case.precision, shapes=shapes).plan
    except WorkbenchError as error:
        return {"refused": error.code}
    return canonical(plan.to_dict(), [layer.precision for layer in plan.layers])


# --- canonical form -------------------------------------------------------------------------------------------------


def canonical(document: dict[str, Any], precisions: Sequence[str]) -> dict[str, Any]:
    """What is compared of a plan's document: no times, no folders of this machine."""
    document = json.loads(json.dumps(document))
    facts = {key: value for key, value in document["facts"].items() if key != "phases"}
    texts = {key: facts.pop(key, None) for key in ("warnings", "inferred", "model_problems", "cast_warnings")}
    layers = [{**layer, "precision": p} for layer, p in zip(document["layers"], precisions, strict=True)]
    for layer in layers:
        # Line numbers apart: a docstring that grows moves them. The test modules among the sources may move too.
        layer["lines"] = [source.pop("line") for source in layer["sources"]]
        for source in layer["sources"]:
            file = source["file"].rpartition("site-packages/")[2]
            source["file"] = Path(file).name if Path(file).is_relative_to(HERE.parent) else file
    return {
        "model": document["model"],
        "layers": layers,
        "unclaimed": [[entry["node"], entry["reason"]] for entry in document["unclaimed"]],
        "io": document["io"],
        "totals": {**document["summary"], **facts},
        "texts": {**texts, "unclaimed": [entry["text"] for entry in document["unclaimed"]]},
    }


def digest(data: Any, digits: int = 16) -> str:
    """The beginning of the SHA-256 of the JSON of `data`."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def aspect_of(layer: dict[str, Any], aspect: str) -> list[Any]:
    """The values of one aspect of a layer."""
    return [layer.get(field) for field in ASPECTS[aspect]]


def short(plan: dict[str, Any]) -> dict[str, Any]:
    """What a golden file holds of a plan: hashes and totals."""
    if "refused" in plan:
        return plan
    reasons: dict[str, list[str]] = {}
    for node, reason in plan["unclaimed"]:
        reasons.setdefault(reason, []).append(node)
    layers = plan["layers"]
    return {
        "model": plan["model"]["sha256"][:16],
        "count": len(layers),
        "layers": {a: "".join(digest(aspect_of(la, a), DIGITS) for la in layers) for a in ASPECTS},
        "whole": {a: digest([aspect_of(la, a) for la in layers]) for a in ASPECTS},
        "unclaimed": {reason: [len(nodes), digest(nodes, 8)] for reason, nodes in sorted(reasons.items())},
        "io": digest(plan["io"], 8),
        "totals": plan["totals"],
        "texts": {key: digest(value, 8) for key, value in plan["texts"].items() if value},
    }


# --- files ----------------------------------------------------------------------------------------------------------


def file_of(group: str) -> Path:
    """The golden file of a group."""
    return HERE / f"{group}.json.xz"


def golden(group: str) -> dict[str, Any]:
    """What the file of a group holds: ``versions`` of the libraries, and ``plans`` by the name of the case."""
    file = file_of(group)
    if not file.is_file():
        return {"versions": {}, "plans": {}}
    found: dict[str, Any] = json.loads(lzma.decompress(file.read_bytes()))
    return found


def write(group: str, plans: dict[str, Any], *, whole: bool) -> None:
    """Put plans into the file of a group; those of other cases stay, except where `plans` is the `whole` group."""
    others = {} if whole else golden(group)["plans"]
    document = {"versions": versions(), "plans": {**others, **plans}}
    data = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    file_of(group).write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def versions() -> dict[str, str]:
    """The versions of the libraries that decide what a plan is."""
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def full_file(folder: Path, case: Case) -> Path:
    """Where ``--full`` keeps the plan of a case."""
    return folder / case.group / f"{case.name.replace('/', '_')}.json"


@contextlib.contextmanager
def copied(store: Path) -> Iterator[Path]:
    """A copy of a store without its plans, so that they are made again from the compiler's records."""
    with tempfile.TemporaryDirectory(prefix="golden-", dir=store.parent) as folder:
        home = Path(folder) / "home"
        shutil.copytree(store, home, copy_function=_link, ignore=shutil.ignore_patterns("plan.json", "locks", "tmp"))
        yield home


def _link(source: str, to: str) -> None:
    # The workbench replaces files and never changes their bytes, except those of its databases.
    if ".db" in Path(source).name:
        shutil.copy2(source, to)
    else:
        os.link(source, to)


# --- comparison -----------------------------------------------------------------------------------------------------


def differences(
    was: dict[str, Any], plan: dict[str, Any], before: dict[str, Any] | None = None
) -> dict[str, list[str]]:
    """What differs between a golden plan and a plan now, by aspect; empty where they are equal.

    Args:
        was: From the golden file.
        plan: From `plan_of`.
        before: The golden plan in full, where it was kept.
    """
    now = short(plan)
    if "refused" in was or "refused" in now:
        same = was.get("refused") == now.get("refused")
        return {} if same else {"refused": [f"{was.get('refused', 'a plan')} -> {now.get('refused', 'a plan')}"]}
    found = {aspect: _of_layers(aspect, was, now, plan, before) for aspect in ASPECTS}
    for aspect in ("unclaimed", "totals", "texts"):
        keys = sorted({*was[aspect], *now[aspect]})
        found[aspect] = [
            f"{key}: {_seen(aspect, key, was, before)} -> {_seen(aspect, key, now, plan)}"
            for key in keys
            if was[aspect].get(key) != now[aspect].get(key)
        ]
    found["io"] = [] if was["io"] == now["io"] else [f"{before and before['io']} -> {plan['io']}"]
    found = {aspect: lines for aspect, lines in found.items() if lines}
    if found and was["model"] != now["model"]:
        found[next(iter(found))].insert(0, f"the model itself is another: SHA-256 {was['model']} -> {now['model']}")
    return found


def _seen(aspect: str, key: str, of: dict[str, Any], plan: dict[str, Any] | None) -> Any:
    """A value of a plan's aspect: in full where that is known."""
    if plan is None or aspect == "totals":
        return of[aspect].get(key)
    if aspect == "unclaimed":
        return [node for node, reason in plan["unclaimed"] if reason == key]
    return plan[aspect].get(key)


def _of_layers(
    aspect: str, was: dict[str, Any], now: dict[str, Any], plan: dict[str, Any], before: dict[str, Any] | None
) -> list[str]:
    if was["whole"][aspect] == now["whole"][aspect]:
        return []
    old, new = (_hashes(each["layers"][aspect]) for each in (was, now))
    lines = []
    for i, j in _pairs(was, now):
        if j is None:
            if aspect == "compiler":
                lines.append(f"layer {i} is gone{'' if before is None else ': ' + before['layers'][i]['id']}")
        elif i is None:
            if aspect == "compiler":
                lines.append(f"layer {j} is new: {plan['layers'][j]['id']}")
        elif old[i] != new[j]:
            fields = ASPECTS[aspect]
            values = [f"{field}: {_value(before, i, field)} -> {_value(plan, j, field)}" for field in fields
                      if before is None or before["layers"][i].get(field) != plan["layers"][j].get(field)]  # fmt: skip
            lines.append(f"layer {j} {plan['layers'][j]['id']}: {'; '.join(values)}")
    # Layers that came or went are named under "compiler"; hashes of few digits may agree by chance.
    return lines or ([] if was["count"] != now["count"] else ["the layers together differ"])


def _hashes(text: str) -> list[str]:
    return [text[k : k + DIGITS] for k in range(0, len(text), DIGITS)]


def _pairs(was: dict[str, Any], now: dict[str, Any]) -> list[tuple[int | None, int | None]]:
    """Which golden layer is which layer now: by position where there are as many, else by the compiler's names."""
    if was["count"] == now["count"]:
        return [(i, i) for i in range(was["count"])]
    old, new = (_hashes(each["layers"]["compiler"]) for each in (was, now))
    pairs: list[tuple[int | None, int | None]] = []
    for tag, i, to_i, j, to_j in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            pairs += zip(range(i, to_i), range(j, to_j), strict=True)
        else:
            pairs += [(k, None) for k in range(i, to_i)] + [(None, k) for k in range(j, to_j)]
    return pairs


def _value(plan: dict[str, Any] | None, i: int, field: str) -> str:
    return "?" if plan is None else json.dumps(plan["layers"][i].get(field), ensure_ascii=False)


# --- the command ----------------------------------------------------------------------------------------------------


def make(chosen: Sequence[Case], home: Path, full: Path | None, *, whole: bool) -> int:
    """Write the golden files of the cases, which are all there are where `whole` is true."""
    plans: dict[str, dict[str, Any]] = {}
    with session_in(home) as session:
        for case in chosen:
            plan = plan_of(session, case)
            plans.setdefault(case.group, {})[case.name] = short(plan)
            if full is not None:
                place = full_file(full, case)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(json.dumps(plan, indent=1, sort_keys=True))
            print(f"{case.group}: {case.name}: {plan.get('refused') or len(plan['layers'])}", flush=True)
    for group, found in plans.items():
        write(group, found, whole=whole)
    return 0


def check(chosen: Sequence[Case], home: Path, full: Path | None, ignore: Sequence[str], lines: int) -> int:
    """Compare the cases with the golden files and print what differs.

    Returns:
        1 where an aspect that is not ignored differs, else 0.
    """
    failed, told = 0, set()
    with session_in(home) as session:
        for case in chosen:
            document = golden(case.group)
            other = {n: v for n, v in document["versions"].items() if versions().get(n) != v}
            if other and case.group not in told:
                told.add(case.group)
                print(f"{case.group}: made with {other}, here are {versions()}: plans may differ for that reason alone")
            was = document["plans"].get(case.name)
            plan = plan_of(session, case)
            before = None
            if full is not None and (file := full_file(full, case)).is_file():
                before = json.loads(file.read_text())
            found = {"refused": ["it has no golden plan"]} if was is None else differences(was, plan, before)
            found = {aspect: rows for aspect, rows in found.items() if aspect not in ignore}
            failed += bool(found)
            print(f"{case.group}: {case.name}: {'DIFFERS in ' + ', '.join(found) if found else 'same'}", flush=True)
            for aspect, rows in found.items():
                print(*(f"    {aspect}: {row[:600]}" for row in rows[:lines]), sep="\n")
                if len(rows) > lines:
                    print(f"    {aspect}: and {len(rows) - lines} more")
    print(f"{len(chosen) - failed} of {len(chosen)} plans are the same")
    return int(failed > 0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.plans", description="Golden files of plans.")
    parser.add_argument("action", choices=("make", "check"))
    parser.add_argument("--all", action="store_true", help="every case, not only the quick ones")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains TEXT; implies --all")
    parser.add_argument("--ignore", default="", metavar="ASPECTS", help=f"of {', '.join((*ASPECTS, *OF_PLAN))}")
    parser.add_argument("--lines", type=int, default=3, metavar="N", help="differences to show of each aspect")
    parser.add_argument("--full", type=Path, metavar="FOLDER", help="whole plans as JSON")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--store", type=Path, metavar="FOLDER", help="make: keep models and builds in this store")
    place.add_argument("--reuse", type=Path, metavar="FOLDER", help="check: analyze the builds of this store again")
    given = parser.parse_args()
    ignore = [aspect for aspect in given.ignore.split(",") if aspect]
    if unknown := {*ignore} - {*ASPECTS, *OF_PLAN}:
        parser.error(f"no such aspect: {', '.join(sorted(unknown))}")
    if (given.store and given.action == "check") or (given.reuse and given.action == "make"):
        parser.error("--store belongs to make and --reuse to check")
    warnings.filterwarnings("ignore")
    chosen = cases(everything=given.all or bool(given.only), only=given.only)
    with contextlib.ExitStack() as stack:
        if given.reuse:
            home = stack.enter_context(copied(given.reuse))
        elif given.store:
            home = given.store
        else:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="golden-")))
        if given.action == "make":
            return make(chosen, home, given.full, whole=given.all and not given.only)
        return check(chosen, home, given.full, ignore, given.lines)


if __name__ == "__main__":
    sys.exit(main())
