"""The commands ``fusions``, ``inspect``, ``trtexec`` and ``demo``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.build_flags import BuildCommand, TensorRTCommand, asked
from workbench.cli.options import (
    EstimateOption,
    Format,
    FormatsOption,
    FullOption,
    ModelArgument,
    SessionOption,
    ShapeOption,
    check_written,
    console,
    looking,
    write,
)
from workbench.cli.plan_table import device_of, print_layers, print_plan, write_plan
from workbench.cli.progress import watch_build


def fusions(
    context: typer.Context,
    model: ModelArgument,
    shape: ShapeOption = None,
    output: FormatsOption = Format.TABLE,
    session: SessionOption = "default",
    engine: Annotated[
        Path | None, typer.Option("--engine", help="Also save the serialized engine to this file.")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Stop the build after this many seconds.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a report as one HTML file.")] = None,
    full: FullOption = False,
    estimate: EstimateOption = None,
) -> None:
    """Build MODEL and show which of its operations the compiler fuses into each kernel."""
    check_written({"--engine": engine, "--html": html}, [model])
    from workbench import compilers
    from workbench.compilers.base import Builds
    from workbench.compilers.config import DEFAULT_COMPILER, BuildConfig
    from workbench.core.jobs import prepare_guard
    from workbench.core.spawn import prepare

    options = asked(context)
    # The worker takes as long to start as this process, so both start at the same time.
    if (found := compilers.find(options.get("compiler", DEFAULT_COMPILER), Builds)) is not None:
        prepare(found.preload)
        prepare_guard()  # for shape inference
    from workbench.model.shape_profile import ShapeProfile
    from workbench.session.session import Session

    device = device_of(estimate)
    profiles = (ShapeProfile.parse(shape),) if shape else ()
    config = BuildConfig.of(profiles=profiles, **options)
    with_progress = output is Format.TABLE
    work = Session(session)
    built = watch_build(lambda: work.engines.start(model, config, time_limit=time_limit), show=with_progress)
    if engine is not None:
        built.save(engine)
    if html is not None:
        work.report(html, built.key)
    if output is not Format.TABLE:
        write_plan(built.plan, output, device)
    else:
        print_plan(built, full=full, device=device)


def inspect(
    layers: Annotated[Path, typer.Argument(metavar="LAYERS.json", help="File that trtexec --exportLayerInfo wrote.")],
    profile: Annotated[Path | None, typer.Option("--profile", help="File that trtexec --exportProfile wrote.")] = None,
    times: Annotated[Path | None, typer.Option("--times", help="File that trtexec --exportTimes wrote.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="The ONNX model that the engine was built from.")] = None,
    metadata: Annotated[
        list[Path] | None,
        typer.Option("--metadata", help="JSON file that describes the GPU or the build. Repeat for more."),
    ] = None,
    output: FormatsOption = Format.TABLE,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a report as one HTML file.")] = None,
    session: SessionOption = "default",
    full: FullOption = False,
    estimate: EstimateOption = None,
) -> None:
    """Show the layers of an engine that trtexec built, and their times if they were measured."""
    check_written({"--html": html}, [layers, profile, times, model, *(metadata or ())])
    from rich.markup import escape

    from workbench.analysis.times import explain

    device = device_of(estimate)
    work = looking(session)
    found = None if model is None else work.add(model)
    plan = work.files.inspect(layers, profile=profile, times=times, metadata=metadata or (), model=found)
    if html is not None:
        from workbench.present.lens import Lens
        from workbench.report import report

        report(Lens.of_plan(plan, found), html)
    if output is not Format.TABLE:
        write_plan(plan, output, device)
        return
    out = console()
    known = [plan.facts.get("schema"), (plan.facts.get("device") or {}).get("name"), plan.facts.get("file")]
    out.print(f"\n[bold]{escape(str(plan.model['name']))}[/] " + escape(", ".join(str(k) for k in known if k)))
    print_layers(plan, full=full, device=device)
    for line in explain(plan):
        out.print(escape(line))
    for line in plan.facts.get("warnings", []):
        out.print(f"[yellow]{escape(line)}[/]")


def trtexec_command(
    context: typer.Context,
    model: ModelArgument,
    version: Annotated[int, typer.Option("--for", help="Version of trtexec: 10 or 11.")] = 11,
    shape: ShapeOption = None,
    session: SessionOption = "default",
    measure: Annotated[bool, typer.Option(help="Also run and profile the engine.")] = True,
) -> None:
    """Print the trtexec command that builds MODEL as the workbench does; notes go to standard error."""
    from rich.markup import escape

    from workbench.compilers.config import BuildConfig
    from workbench.model.shape_profile import ShapeProfile

    profiles = (ShapeProfile.parse(shape),) if shape else ()
    config = BuildConfig.of(profiles=profiles, **asked(context))
    work = looking(session)
    found = work.add(model, shapes=profiles[0] if profiles else None)
    command = work.files.trtexec(found, config, version=version, measure=measure)
    write(f"{command}\n")
    for note in command.notes:
        console(stderr=True).print(f"[dim]{escape(note)}[/]", soft_wrap=True)


def demo() -> None:
    """Build a sample model in FP32 and FP16 and show its fusions."""
    from workbench.compilers.config import BuildConfig
    from workbench.session.session import Session

    out = console()
    out.print("[bold]A residual block, written in PyTorch, built with NVIDIA's compiler for an RTX 40 GPU (sm89).[/]")
    session = Session("demo")
    for precision in ("fp32", "fp16"):
        config = BuildConfig(targets="sm89", precision=precision)
        print_plan(watch_build(partial(session.engines.start, "residual_block", config), show=True), full=False)
    out.print(
        "\nYour own model:  [bold]workbench fusions model.onnx --target sm89[/]\n"
        "In a notebook:   [bold]workbench lab[/]      What this machine can do:  [bold]workbench doctor[/]"
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(cls=BuildCommand)(fusions)
    app.command()(inspect)
    app.command(name="trtexec", cls=TensorRTCommand)(trtexec_command)
    app.command()(demo)
