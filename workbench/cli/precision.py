"""The commands of precision: ``cast``, ``quantize``, ``audit``, ``placement``, ``calibration``, ``migrate``."""

from __future__ import annotations

import filecmp
import json
import shlex
import shutil
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from workbench.cli.options import ModelArgument, Output, SessionOption, check_written, looking, warn, write, write_json
from workbench.cli.options import console as _console
from workbench.core.errors import ConfigError, ModelError, StoreError, WorkbenchError
from workbench.core.safe_text import visible
from workbench.core.store import drafts

if TYPE_CHECKING:
    from workbench.core.jobs import Job
    from workbench.engine import Engine
    from workbench.model import Model
    from workbench.precision.audit import Audit
    from workbench.session.session import Session

_Made = TypeVar("_Made")


class Half(str, Enum):
    """What a cast may give."""

    FP16 = "fp16"
    BF16 = "bf16"


class Low(str, Enum):
    """What a quantization may give."""

    INT8 = "int8"
    FP8 = "fp8"
    INT4 = "int4"


class Method(str, Enum):
    """How a range is chosen."""

    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MINMAX = "minmax"
    ENTROPY_CALIBRATION_2 = "entropy_calibration_2"
    ENTROPY_CALIBRATION = "entropy_calibration"
    MINMAX_CALIBRATION = "minmax_calibration"
    LEGACY_CALIBRATION = "legacy_calibration"


class RangeMethod(str, Enum):
    """How a range is read off the histograms of a cache."""

    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MINMAX = "minmax"


class Weights(str, Enum):
    """How weights are scaled."""

    CHANNEL_AFTER = "channel-after"
    CHANNEL = "channel"
    TENSOR = "tensor"


class Library(str, Enum):
    """Who quantizes or casts."""

    WORKBENCH = "workbench"
    ONNXRUNTIME = "onnxruntime"
    MODELOPT = "modelopt"


class Rest(str, Enum):
    """Precision of what is not quantized."""

    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"


OutOption = Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")]
FormatOption = Annotated[Output, typer.Option("--format", "-f")]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option("--shape", "-s", metavar="NAME=SHAPE", help="Size of a dynamic input. Repeat for more."),
]


def cast(
    model: ModelArgument,
    to: Annotated[Half, typer.Option("--to", help="The precision.")],
    output: OutOption,
    check: Annotated[
        str | None, typer.Option("--check", metavar="DATA", help="Data on which to look for values beyond FP16's range.")
    ] = None,
    library: Annotated[Library, typer.Option(help="workbench, or modelopt for its AutoCast.")] = Library.WORKBENCH,
    keep: Annotated[list[str] | None, typer.Option(help="Node, or pattern, to leave in FP32. Repeat.")] = None,
    keep_op: Annotated[list[str] | None, typer.Option(help="Operation to leave in FP32, such as Softmax. Repeat.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Node, or pattern: cast these and no others. Repeat.")] = None,
    only_op: Annotated[list[str] | None, typer.Option(help="Operation: cast these and no others. Repeat.")] = None,
    shape: ShapeOption = None,
    keep_io: Annotated[bool, typer.Option("--keep-io/--cast-io", help="Whether inputs and outputs keep their types.")] = True,
    how: FormatOption = Output.TABLE,
    session: SessionOption = "default",
) -> None:  # fmt: skip
    """Convert MODEL to FP16 or BF16 and write it."""
    check_written({"--output": output}, [model, check])
    if library is Library.ONNXRUNTIME:
        raise ConfigError("ONNX Runtime does not cast here.", hint="--library workbench or modelopt.")
    from workbench.model.shape_profile import ShapeProfile, sizes_of
    from workbench.passes.cast import cast as convert
    from workbench.passes.casting import Lists
    from workbench.passes.guard import REASONS
    from workbench.passes.ir import some
    from workbench.precision.modelopt import autocast
    from workbench.precision.overflow import warnings

    work = _session(session)
    lists: dict[str, Any] = {
        "keep_ops": tuple(keep_op or ()),
        "only": tuple(only or ()),
        "only_ops": tuple(only_op or ()),
    }
    kept = tuple(keep or ())
    if check is not None:
        exact, shapes = work.add(model), sizes_of(ShapeProfile.parse(shape) if shape else None)
        wanted = Lists(keep=kept, keep_io=keep_io, **lists)
        for text in _watched(
            lambda on_job: warnings(exact, work.store, to.value, check, shapes=shapes, lists=wanted, on_job=on_job)
        ):
            warn(f"Warning: {text}")
    if library is Library.MODELOPT:
        if any(lists.values()) or not keep_io:
            raise ConfigError(
                "AutoCast takes node names to keep, and no other list.", hint="Use --keep, or no --library."
            )
        low = _watched(lambda on_job: autocast(work.add(model), to.value, work.store, keep=kept, on_job=on_job))
    else:
        low = _watched(
            lambda on_job: convert(
                work.add(model), to.value, work.store, keep=kept, keep_io=keep_io, on_job=on_job, **lists
            )
        )
    _export(low, output)
    info = low.origin
    for text in info.get("warnings", ()):
        warn(f"Warning: {text}")
    rows = [("precision", to.value), ("casts added", str(info["casts"]))]
    rows += [("left in FP32", ", ".join(f"{n} {op}" for op, n in info["kept"].items()))] if info["kept"] else []
    for rule, names in info.get("guarded", {}).items():
        rows.append(("of these", f"{some(names, 4)}: {REASONS[rule]}"))
    rows += [("clipped", ", ".join(info["clipped"][:8]))] if info["clipped"] else []
    _report(how, output, {**info}, rows)


def quantize(
    model: ModelArgument,
    output: OutOption,
    to: Annotated[Low, typer.Option("--to", help="int8, fp8, or int4 (weights only).")] = Low.INT8,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration", "-c", metavar="DATA",
            help="A folder, an .npz or .npy file, module:factory, random:N, sample (the sample model's own), or a calibration "
            "cache (.json, or TensorRT's).",
        ),
    ] = None,
    method: Annotated[Method | None, typer.Option(help="Default: entropy; for FP8 minmax. The last four are TensorRT 10's own.")] = None,
    percentile: Annotated[float, typer.Option(help="For the percentile method.")] = 99.99,
    rest: Annotated[Rest, typer.Option(help="Precision of what is not quantized.")] = Rest.FP16,
    weights: Annotated[Weights | None, typer.Option(help="A scale a channel (behind the convolution, or in the weight), or one.")] = None,
    library: Annotated[Library, typer.Option(help="Who places Q/DQ; modelopt needs `workbench env create modelopt`.")] = Library.WORKBENCH,
    keep: Annotated[list[str] | None, typer.Option(help="Node or PyTorch module, or a pattern of them, to leave in higher precision. Repeat.")] = None,
    block: Annotated[int, typer.Option(help="INT4: weights that share a scale.")] = 128,
    batches: Annotated[int | None, typer.Option(help="Use at most this many batches.")] = None,
    shape: ShapeOption = None,
    save_calibration: Annotated[Path | None, typer.Option(help="Also write the calibration cache here (.json).")] = None,
    how: FormatOption = Output.TABLE,
    session: SessionOption = "default",
) -> None:  # fmt: skip
    """Quantize MODEL by calibration and write it with Q/DQ where TensorRT wants them."""
    check_written({"--output": output, "--save-calibration": save_calibration}, [model, calibration])
    from workbench.model.shape_profile import ShapeProfile, sizes_of
    from workbench.precision.quantize import calibration as calibration_of
    from workbench.precision.quantize import quantize as convert
    from workbench.precision.quantize import summary
    from workbench.precision.samples import data_of
    from workbench.precision.scheme import Scheme

    scheme = Scheme(
        to=to.value, method=method.value if method else None, percentile=percentile, rest=rest.value,
        keep=tuple(keep or ()), block=block, library=library.value, **({"weights": weights.value} if weights else {}),
    )  # fmt: skip
    shapes = sizes_of(ShapeProfile.parse(shape) if shape else None)
    work = _session(session)
    source = work.add(model)

    def start(on_job: Callable[[Job], None]) -> Model:
        data = data_of(source, work.store, calibration, on_job=on_job).calibration
        return convert(source, work.store, scheme, data=data, shapes=shapes, limit=batches, on_job=on_job)

    low = _watched(start)
    if save_calibration is not None:
        calibration_of(low, work.store).save(save_calibration)
    _export(low, output)
    for warning in low.origin["warnings"]:
        warn(f"Warning: {warning}")
    _report(how, output, dict(low.origin), list(summary(low)))


def audit(
    what: Annotated[str, typer.Argument(metavar="ENGINE_OR_MODEL", help="The beginning of an engine's key, or a model.")],
    target: Annotated[str | None, typer.Option("--target", "-t", help="GPU to build for, if it must be built.")] = None,
    precision: Annotated[str, typer.Option("--precision", "-p", help="fp32 leaves the graph as it is.")] = "fp32",
    against: Annotated[
        list[str] | None,
        typer.Option("--against", help="An engine or model to set beside it; MODEL@fp16 builds it in FP16. Repeat."),
    ] = None,
    asked: Annotated[str | None, typer.Option(help="The precision that you meant: fp16, int8, ...")] = None,
    shape: ShapeOption = None,
    how: FormatOption = Output.TABLE,
    session: SessionOption = "default",
    full: Annotated[bool, typer.Option("--full", help="Every layer.")] = False,
) -> None:  # fmt: skip
    """Show the precision that a build really has, where it is not what was asked, and what that costs."""
    from workbench.precision.audit import audit, known, scheme_in
    from workbench.precision.audit_changes import compare, verdict

    known(asked)
    work = looking(session)
    engine = _engine(work, what, target, precision, shape)
    found = audit(engine.plan, asked, scheme_in(engine.source().path))
    others = {text: _engine(work, text, target, "fp32", shape).plan for text in against or ()}
    plans = {what: engine.plan, **others}
    if how is Output.JSON:
        document: dict[str, Any] = found.to_dict()
        document["layers"] = json.loads(found.to_frame().to_json(orient="records"))
        if others:
            document["compared"] = {name: audit(plan).figures for name, plan in plans.items()}
        write_json(document, indent=1)
        return
    _print_audit(found, full=full)
    if others:
        _print_compared(compare(plans))
        for name, plan in others.items():
            _console().print(verdict(engine.plan, plan, (what, name)), markup=False)


def placement(
    model: ModelArgument,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the model with the pairs moved.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Which to move: activation, residual, concat, pooling. Repeat. All but residual by default."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Build both for this GPU, and show what moving changes.")
    ] = None,
    how: FormatOption = Output.TABLE,
    session: SessionOption = "default",
) -> None:  # fmt: skip
    """Find Q/DQ pairs of a quantized MODEL that stand in the way of fusions, and move them."""
    check_written({"--output": output}, [model])
    from dataclasses import asdict

    from workbench.passes.place_qdq import DEFAULT, check_kinds, fix, look
    from workbench.precision.audit_changes import compare

    check_kinds(kind or ())
    work = looking(session)
    source = work.add(model)
    found = look(source)
    document: dict[str, Any] = {"misplaced": [{**asdict(m), "text": m.text} for m in found]}
    frame = None
    if output is not None or (target is not None and found):
        low = _watched(lambda on_job: fix(source, work.store, kinds=kind or DEFAULT, on_job=on_job))
        document |= {"removed": low.origin["removed"], "added": low.origin["added"]}
        if output is not None:
            _export(low, output)
        if target is not None:
            frame = compare(
                {"as it is": work.build(source, target=target).plan, "moved": work.build(low, target=target).plan}
            )
            document["compared"] = json.loads(frame.to_json())
    if how is Output.JSON:
        write_json(document, indent=1)
        return
    for misplaced in found:
        _console().print(misplaced.text, markup=False, soft_wrap=True)
    if not found:
        _console().print("No pair is misplaced.")
    if output is not None:
        _console().print(
            f"written {output}: {document['removed']} pairs gone, {document['added']} moved to a product's input",
            markup=False,
        )
    if frame is not None:
        _print_compared(frame)


def calibration(
    file: Annotated[Path, typer.Argument(help="A cache of quantize --save-calibration, or of TensorRT 10.")],
    other: Annotated[Path | None, typer.Argument(help="Another one to compare it with, of either kind.")] = None,
    method: Annotated[RangeMethod, typer.Option(help="Ranges of this method are compared.")] = RangeMethod.ENTROPY,
    tensorrt: Annotated[
        Path | None, typer.Option("--tensorrt", metavar="FILE", help="Also write these ranges as TensorRT 10's cache.")
    ] = None,
    how: FormatOption = Output.TABLE,
) -> None:
    """Look into a calibration cache, or compare two."""
    import pandas as pd

    check_written({"--tensorrt": tensorrt}, [file, other])
    from workbench.precision.calibration import Calibration, side_by_side
    from workbench.precision.calibration_cache import TensorRTCache

    def load(path: Path) -> Calibration | TensorRTCache:
        return TensorRTCache.load(path) if TensorRTCache.is_one(path) else Calibration.load(path)

    def ranges(of: Calibration | TensorRTCache) -> dict[str, float]:
        return of.ranges() if isinstance(of, TensorRTCache) else of.ranges(method.value)

    first = load(file)
    frame = first.to_frame() if other is None else side_by_side(ranges(first), ranges(load(other)))
    if tensorrt is not None:
        (first if isinstance(first, TensorRTCache) else TensorRTCache.of(first, method.value)).save(tensorrt)
    if isinstance(first, TensorRTCache):
        about: dict[str, Any] = {"head": first.head}
        line = f"{first.head}: {len(first.scales)} tensors; it does not say of which model"
    else:
        about, data = {"model": first.model, "data": dict(first.data)}, first.data
        line = f"{data['source']}: {data['batches']} batches, {data['samples']} samples; model {first.model[:12]}"
    if how is Output.JSON:
        rows = json.loads(frame.to_json(orient="records"))
        write_json({**about, "tensors": rows}, indent=1)
        return
    _console().print(line, markup=False)
    _print_frame(frame.map(lambda v: "–" if pd.isna(v) else f"{v:.5g}" if isinstance(v, float) else v))


def migrate(
    request: Annotated[
        list[str], typer.Argument(metavar="REQUEST", help="What was given to TensorRT 10, after --: flags, or a line of Python.")
    ],
    data: Annotated[str, typer.Option("--calibration", "-c", help="Calibration data to put into the commands.")] = "DATA",
    how: FormatOption = Output.TABLE,
) -> None:  # fmt: skip
    """Turn a TensorRT 10 request (precision flags, a calibrator) into one for TensorRT 11."""
    from dataclasses import asdict

    from workbench.precision.migrate import migrate

    made = migrate(request[0] if len(request) == 1 else shlex.join(request), data=data)
    if how is Output.JSON:
        write_json(asdict(made), indent=1)
        return
    for block in (made.shell, ("", *made.python)):
        write("\n".join(block) + "\n")
    for note in made.notes:
        write(f"# {note}\n")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (cast, quantize, audit, placement, calibration, migrate):
        app.command()(command)


# --- parts ------------------------------------------------------------------------------------------


def _session(name: str) -> Session:
    from workbench.session.session import Session

    return Session(name)


def _watched(start: Callable[[Callable[[Job], None]], _Made]) -> _Made:
    """Run a conversion with a progress line on standard error, where that is a terminal."""
    from rich.markup import escape

    console = _console(stderr=True)
    if not console.is_terminal:
        return start(lambda _job: None)
    with console.status("Reading the data") as status:

        def watch(job: Job) -> None:
            def tell(now: Job) -> None:
                steps = [f"{p.phase} {p.done}/{p.total}" for p in now.progress if p.done < p.total]
                status.update(f"{now.seconds:5.1f} s  {escape(visible(steps[-1] if steps else now.title))}")

            job.on_change(tell)

        return start(watch)


def _export(model: Model, output: Path) -> None:
    """Copy the model out of the store. Weights beside it keep their name: the file refers to it.

    Raises:
        ModelError: other weights of that name are in the way.
        StoreError: the files can't be written; what was there stays.
    """
    beside = {file: output.parent / file.relative_to(model.path.parent) for file in model.companions}
    for file, place in beside.items():
        if place.exists() and not filecmp.cmp(file, place, shallow=False):
            raise ModelError(
                f"{place} holds the weights of another model, and those of this one must have that name.",
                hint="Write it into a folder of its own: -o FOLDER/" + output.name,
            )
    # The model last: until its weights are there it would be a file that can't be read.
    with drafts.output(output) as draft:
        shutil.copyfile(model.path, draft)
        for file, place in beside.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            with drafts.output(place) as weights:
                shutil.copyfile(file, weights)


def _report(how: Output, output: Path, info: dict[str, Any], rows: list[tuple[str, str]]) -> None:
    if how is Output.JSON:
        write_json({"output": str(output), **info}, indent=1)
        return
    from rich.markup import escape
    from rich.table import Table

    from workbench.core.units import bytes_text

    table = Table(box=None, pad_edge=False, show_header=False)
    for label, text in [("written", f"{output} ({bytes_text(output.stat().st_size)})"), *rows]:
        table.add_row(f"[bold]{escape(label)}[/]", escape(text))
    _console().print(table)


def _engine(work: Session, text: str, target: str | None, precision: str, shape: list[str] | None) -> Engine:
    """An engine of the session by the beginning of its key, or a build of a model (``NAME@precision``)."""
    from workbench.compilers.config import BuildConfig
    from workbench.model.shape_profile import ShapeProfile

    path = Path(text)
    if path.is_file() and path.suffix in {".engine", ".plan", ".trt"}:
        raise StoreError(
            f"{text} is a serialized engine: without its GPU nothing can be read from it.",
            hint="Name the model that it was built from, or an engine of the session (session.engines).",
        )
    key = text.removeprefix("imported-")
    if not path.is_file() and len(key) >= 4 and all(c in "0123456789abcdef" for c in key):
        try:
            return work.engines.find(text)
        except WorkbenchError:
            if target is None:
                raise
    name, _, wanted = text.rpartition("@")
    if name and wanted in {"fp32", "fp16", "bf16"}:
        text, precision = name, wanted
    profiles = (ShapeProfile.parse(shape),) if shape else ()
    config = BuildConfig(targets=target or (), precision=precision, profiles=profiles)
    return work.build(text, config)


def _print_audit(found: Audit, *, full: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from workbench.core.units import bytes_text, flops_text

    out, plan = _console(), found.plan
    out.print(
        f"\n[bold]{escape(str(plan.model['name']))}[/] "
        + escape("for {target} by {name} {version}".format_map(plan.compiler))
        + f": asked for [bold]{escape(str(found.asked))}[/]"
    )
    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for heading in ("kernels that read", "kernels", "operations", "moved"):
        table.add_column(heading, justify="left" if heading.startswith("kernels that") else "right")
    for dtype, row in found.by_precision.items():
        operations = flops_text(row["flops"], row["flops_unknown"])
        table.add_row(escape(dtype), str(row["kernels"]), operations, bytes_text(row["bytes"]))
    out.print(table)
    for kind, counts in found.products.items():
        out.print(f"{kind}: " + ", ".join(f"{n} in {dtype}" for dtype, n in counts.items()), markup=False)
    if found.words:
        out.print(found.words, markup=False)
    if not found.findings:
        out.print("Nothing else was found.")
    for finding in found.findings:
        out.print(f"[yellow]{bytes_text(finding.bytes)}[/]  {escape(finding.text)}", soft_wrap=True)
        out.print(f"    [cyan]{escape(finding.hint)}[/]", soft_wrap=True)
    if full:
        frame = found.to_frame()
        _print_frame(frame[["layer", "kind", "reads", "stores", "bytes", "findings"]])


def _print_compared(frame: Any) -> None:
    """Figures of several plans: whole numbers as such, shares with two digits."""
    _print_frame(frame.map(lambda v: f"{v:.2f}" if isinstance(v, float) else f"{v:,}").reset_index(names=""))


def _print_frame(frame: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for name in frame.columns:
        table.add_column(
            escape(str(name)), overflow="fold", justify="right" if name not in {"", "tensor", "layer"} else "left"
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(str(v)) for v in row))
    _console().print(table)
