"""The commands ``cast`` and ``quantize``."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.model_file import OutOption, export_model, report
from workbench.cli.options import FormatOption, ModelArgument, Output, SessionOption, SizeOption, check_written, warn
from workbench.cli.progress import watch_jobs
from workbench.core.errors import ConfigError

if TYPE_CHECKING:
    from workbench.core.jobs import Job
    from workbench.model import Model


class Half(str, Enum):
    """Precisions for ``cast``."""

    FP16 = "fp16"
    BF16 = "bf16"


class Low(str, Enum):
    """Precisions for ``quantize``."""

    INT8 = "int8"
    FP8 = "fp8"
    INT4 = "int4"


class Method(str, Enum):
    """How ranges are calibrated."""

    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MINMAX = "minmax"
    ENTROPY_CALIBRATION_2 = "entropy_calibration_2"
    ENTROPY_CALIBRATION = "entropy_calibration"
    MINMAX_CALIBRATION = "minmax_calibration"
    LEGACY_CALIBRATION = "legacy_calibration"


class Weights(str, Enum):
    """Where the scales of weights apply."""

    CHANNEL_AFTER = "channel-after"
    CHANNEL = "channel"
    TENSOR = "tensor"


class Library(str, Enum):
    """The library that casts or quantizes."""

    WORKBENCH = "workbench"
    ONNXRUNTIME = "onnxruntime"
    MODELOPT = "modelopt"


class Rest(str, Enum):
    """Precision of the rest of the model."""

    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"


def cast(
    model: ModelArgument,
    to: Annotated[Half, typer.Option("--to", help="The precision of the result.")],
    output: OutOption,
    check: Annotated[
        str | None, typer.Option("--check", metavar="DATA", help="Run MODEL on this data first, and warn about values outside the range of FP16.")
    ] = None,
    library: Annotated[Library, typer.Option(help="Library that converts: workbench, or modelopt (AutoCast).")] = Library.WORKBENCH,
    keep: Annotated[list[str] | None, typer.Option(help="Node to leave in FP32, or a pattern of names. Repeat for more.")] = None,
    keep_op: Annotated[list[str] | None, typer.Option(help="Operation to leave in FP32, such as Softmax. Repeat for more.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Convert only this node, or nodes that match this pattern. Repeat for more.")] = None,
    only_op: Annotated[list[str] | None, typer.Option(help="Convert only this operation. Repeat for more.")] = None,
    shape: SizeOption = None,
    keep_io: Annotated[bool, typer.Option("--keep-io/--cast-io", help="Keep the types of inputs and outputs, or convert them too.")] = True,
    how: FormatOption = Output.TABLE,
    session: SessionOption = "default",
) -> None:  # fmt: skip
    """Convert MODEL to FP16 or BF16 and write it to a file."""
    check_written({"--output": output}, [model, check])
    if library is Library.ONNXRUNTIME:
        raise ConfigError(
            "--library onnxruntime can't convert to FP16 or BF16.",
            hint="Use --library workbench or --library modelopt.",
        )
    from workbench.model.shape_profile import ShapeProfile, sizes_of
    from workbench.passes.cast import cast as convert
    from workbench.passes.casting import Lists
    from workbench.passes.guard import REASONS
    from workbench.passes.ir import some
    from workbench.precision.modelopt import autocast
    from workbench.precision.overflow import warnings
    from workbench.session.session import Session

    work = Session(session)
    lists: dict[str, Any] = {
        "keep_ops": tuple(keep_op or ()),
        "only": tuple(only or ()),
        "only_ops": tuple(only_op or ()),
    }
    kept = tuple(keep or ())
    if check is not None:
        exact, shapes = work.add(model), sizes_of(ShapeProfile.parse(shape) if shape else None)
        wanted = Lists(keep=kept, keep_io=keep_io, **lists)
        for text in watch_jobs(
            lambda on_job: warnings(exact, work.store, to.value, check, shapes=shapes, lists=wanted, on_job=on_job)
        ):
            warn(f"Warning: {text}")
    if library is Library.MODELOPT:
        if any(lists.values()) or not keep_io:
            raise ConfigError(
                "AutoCast only supports --keep.", hint="Leave out the other options, or use --library workbench."
            )
        low = watch_jobs(lambda on_job: autocast(work.add(model), to.value, work.store, keep=kept, on_job=on_job))
    else:
        low = watch_jobs(
            lambda on_job: convert(
                work.add(model), to.value, work.store, keep=kept, keep_io=keep_io, on_job=on_job, **lists
            )
        )
    export_model(low, output)
    info = low.origin
    for text in info.get("warnings", ()):
        warn(f"Warning: {text}")
    rows = [("precision", to.value), ("casts added", str(info["casts"]))]
    rows += [("left in FP32", ", ".join(f"{n} {op}" for op, n in info["kept"].items()))] if info["kept"] else []
    for rule, names in info.get("guarded", {}).items():
        rows.append(("of these", f"{some(names, 4)}: {REASONS[rule]}"))
    rows += [("clipped", ", ".join(info["clipped"][:8]))] if info["clipped"] else []
    report(how, output, {**info}, rows)


def quantize(
    model: ModelArgument,
    output: OutOption,
    to: Annotated[Low, typer.Option("--to", help="The precision: int8, fp8, or int4 (weights only).")] = Low.INT8,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration", "-c", metavar="DATA",
            help="Calibration data: a folder, an .npz or .npy file, module:factory, random:N, sample (data of the sample "
            "model), or a calibration cache (.json, or TensorRT's).",
        ),
    ] = None,
    method: Annotated[Method | None, typer.Option(help="How ranges are calibrated. Default: entropy, and minmax for FP8. The last four are calibrators of TensorRT 10.")] = None,
    percentile: Annotated[float, typer.Option(help="Percentile of absolute values (method percentile).")] = 99.99,
    rest: Annotated[Rest, typer.Option(help="Precision of the rest of the model.")] = Rest.FP16,
    weights: Annotated[Weights | None, typer.Option(help="Scales of weights: one per channel, applied after the convolution (channel-after) or in the weight (channel), or one per tensor (tensor).")] = None,
    library: Annotated[Library, typer.Option(help="Library that inserts Q/DQ nodes; modelopt needs `workbench env create modelopt`.")] = Library.WORKBENCH,
    keep: Annotated[list[str] | None, typer.Option(help="Node or PyTorch module not to quantize, or a pattern of names. Repeat for more.")] = None,
    block: Annotated[int, typer.Option(help="INT4: number of weights that share a scale.")] = 128,
    batches: Annotated[int | None, typer.Option(help="Use at most this many batches of the data.")] = None,
    shape: SizeOption = None,
    save_calibration: Annotated[Path | None, typer.Option(help="Also write the calibration cache here (.json).")] = None,
    how: FormatOption = Output.TABLE,
    session: SessionOption = "default",
) -> None:  # fmt: skip
    """Quantize MODEL with calibration data and write it with Q/DQ nodes where TensorRT expects them."""
    check_written({"--output": output, "--save-calibration": save_calibration}, [model, calibration])
    from workbench.model.shape_profile import ShapeProfile, sizes_of
    from workbench.precision.quantize import calibration as calibration_of
    from workbench.precision.quantize import quantize as convert
    from workbench.precision.quantize import summary
    from workbench.precision.samples import data_of
    from workbench.precision.scheme import Scheme
    from workbench.session.session import Session

    scheme = Scheme(
        to=to.value, method=method.value if method else None, percentile=percentile, rest=rest.value,
        keep=tuple(keep or ()), block=block, library=library.value, **({"weights": weights.value} if weights else {}),
    )  # fmt: skip
    shapes = sizes_of(ShapeProfile.parse(shape) if shape else None)
    work = Session(session)
    source = work.add(model)

    def start(on_job: Callable[[Job], None]) -> Model:
        data = data_of(source, work.store, calibration, on_job=on_job).calibration
        return convert(source, work.store, scheme, data=data, shapes=shapes, limit=batches, on_job=on_job)

    low = watch_jobs(start)
    if save_calibration is not None:
        calibration_of(low, work.store).save(save_calibration)
    export_model(low, output)
    for warning in low.origin["warnings"]:
        warn(f"Warning: {warning}")
    report(how, output, dict(low.origin), list(summary(low)))


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (cast, quantize):
        app.command()(command)
