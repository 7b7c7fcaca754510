"""The same calls from the shell.

Exit codes: 0 done, 1 the model or the build failed (the reason on standard error), 2 wrong use. With
``--format json`` standard output holds one JSON document and nothing else.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from workbench.cli import archive as cli_archive
from workbench.cli import audit as cli_audit
from workbench.cli import calibration as cli_calibration
from workbench.cli import convert as cli_convert
from workbench.cli import environments as cli_env
from workbench.cli.build_flags import BuildCommand, TensorRTCommand, asked
from workbench.cli.options import (
    ModelArgument,
    Output,
    SessionOption,
    ShapeOption,
    TargetOption,
    check_written,
    in_shell,
    looking,
    write,
    write_csv,
    write_json,
)
from workbench.cli.options import console as _console
from workbench.core.errors import ExportWarning, WorkbenchError
from workbench.core.safe_text import visible

if TYPE_CHECKING:
    from workbench.build import Build
    from workbench.engine import Engine
    from workbench.hardware.devices import DeviceSpec
    from workbench.model.provenance import Source
    from workbench.plan import Layer, Plan
    from workbench.plan.columns import Column, Rows
    from workbench.plan.partition import Partition

app = typer.Typer(
    add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="See what an inference compiler makes of your model.",
)  # fmt: skip


class CheckName(str, Enum):
    """What becomes of a model exported from PyTorch that differs from its module."""

    ERROR = "error"
    WARN = "warn"
    OFF = "off"


@app.callback(help="See what an inference compiler makes of your model.")
def _for_all(
    check: Annotated[
        CheckName | None,
        typer.Option(help="What is exported from PyTorch is compared with it: refuse what differs (error, the default), "
                          "keep it with a warning (warn), or compare nothing (off)."),
    ] = None,
) -> None:  # fmt: skip
    if check is not None:
        os.environ["WORKBENCH_EXPORT_CHECK"] = check.value


class Format(str, Enum):
    """How a result is written, where it is a table that a spreadsheet may want."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class PrecisionName(str, Enum):
    """Precisions that a build may be asked for."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


EstimateOption = Annotated[
    str | None,
    typer.Option("--estimate", metavar="GPU", help="Add each layer's least time on a GPU (a100, rtx-4090, sm89 ...), "
                 "estimated from its datasheet."),
]  # fmt: skip


@app.command(cls=BuildCommand)
def fusions(
    context: typer.Context,
    model: ModelArgument,
    shape: ShapeOption = None,
    output: Annotated[Format, typer.Option("--format", "-f")] = Format.TABLE,
    session: SessionOption = "default",
    engine: Annotated[Path | None, typer.Option("--engine", help="Also save the serialized engine here.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which the build is stopped.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write the self-contained report here.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Every node name, and layers that own no node.")] = False,
    estimate: EstimateOption = None,
) -> None:
    """Show which operations of MODEL the compiler turns into one kernel."""
    check_written({"--engine": engine, "--html": html}, [model])
    from workbench import compilers
    from workbench.compilers.base import Builds
    from workbench.compilers.config import DEFAULT_COMPILER, BuildConfig
    from workbench.core.jobs import prepare_guard
    from workbench.core.spawn import prepare

    options = asked(context)
    # The worker needs as long to start as this process: let both start together.
    if (found := compilers.find(options.get("compiler", DEFAULT_COMPILER), Builds)) is not None:
        prepare(found.preload)
        prepare_guard()  # for shape inference
    from workbench.model.shape_profile import ShapeProfile
    from workbench.session.session import Session

    device = _device(estimate)
    profiles = (ShapeProfile.parse(shape),) if shape else ()
    config = BuildConfig.of(profiles=profiles, **options)
    with_progress = output is Format.TABLE
    work = Session(session)
    built = _watched(lambda: work.engines.start(model, config, time_limit=time_limit), show=with_progress)
    if engine is not None:
        built.save(engine)
    if html is not None:
        work.report(html, built.key)
    if output is not Format.TABLE:
        _write_plan(built.plan, output, device)
    else:
        _print_plan(built, full=full, device=device)


@app.command()
def inspect(
    layers: Annotated[Path, typer.Argument(metavar="LAYERS.json", help="File of trtexec --exportLayerInfo.")],
    profile: Annotated[Path | None, typer.Option("--profile", help="File of --exportProfile.")] = None,
    times: Annotated[Path | None, typer.Option("--times", help="File of --exportTimes.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="The ONNX model that the engine was built from.")] = None,
    metadata: Annotated[
        list[Path] | None, typer.Option("--metadata", help="JSON that says which GPU it was. Repeat for more.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", "-f")] = Format.TABLE,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a report that needs no server.")] = None,
    session: SessionOption = "default",
    full: Annotated[bool, typer.Option("--full", help="Every node name, and layers that own no node.")] = False,
    estimate: EstimateOption = None,
) -> None:
    """Show an engine that trtexec built: its layers, and their times where they were measured."""
    check_written({"--html": html}, [layers, profile, times, model, *(metadata or ())])
    from rich.markup import escape

    from workbench.analysis.times import explain

    device = _device(estimate)
    work = looking(session)
    found = None if model is None else work.add(model)
    plan = work.files.inspect(layers, profile=profile, times=times, metadata=metadata or (), model=found)
    if html is not None:
        from workbench.present.lens import Lens
        from workbench.report import report

        report(Lens.of_plan(plan, found), html)
    if output is not Format.TABLE:
        _write_plan(plan, output, device)
        return
    out = _console()
    known = [plan.facts.get("schema"), (plan.facts.get("device") or {}).get("name"), plan.facts.get("file")]
    out.print(f"\n[bold]{escape(str(plan.model['name']))}[/] " + escape(", ".join(str(k) for k in known if k)))
    _print_layers(plan, full=full, device=device)
    for line in explain(plan):
        out.print(escape(line))
    for line in plan.facts.get("warnings", []):
        out.print(f"[yellow]{escape(line)}[/]")


@app.command(name="trtexec", cls=TensorRTCommand)
def trtexec_command(
    context: typer.Context,
    model: ModelArgument,
    version: Annotated[int, typer.Option("--for", help="trtexec's version: 10 or 11.")] = 11,
    shape: ShapeOption = None,
    session: SessionOption = "default",
    measure: Annotated[bool, typer.Option(help="Also run and profile the engine.")] = True,
) -> None:
    """Print the trtexec command that builds MODEL as the workbench would; notes go to standard error."""
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
        _console(stderr=True).print(f"[dim]{escape(note)}[/]", soft_wrap=True)


class Method(str, Enum):
    """Who is asked for a partition."""

    TORCH_TENSORRT = "torch_tensorrt"
    PARSER = "parser"
    BUILDER = "builder"


@app.command()
def partition(
    model: ModelArgument,
    shape: ShapeOption = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="Who is asked: torch_tensorrt (its own partitioner), parser (TensorRT's ONNX parser), or builder, which "
            "refuses some of what the parser takes. By default the builder where the model is small.",
        ),
    ] = None,
    min_block_size: Annotated[int | None, typer.Option(help="Operators that make an engine (torch_tensorrt).")] = None,
    target: TargetOption = None,
    precision: Annotated[PrecisionName, typer.Option("--precision", "-p")] = PrecisionName.FP32,
    output: Annotated[Format, typer.Option("--format", "-f")] = Format.TABLE,
    session: SessionOption = "default",
) -> None:
    """Show which operators of MODEL run in TensorRT, which fall back, and how many engines that makes."""
    from workbench.model.shape_profile import ShapeProfile

    given: dict[str, Any] = {
        "min_block_size": min_block_size, "target": target, "precision": precision.value,
    }  # fmt: skip
    found = looking(session).torch.partition(
        model, shapes=ShapeProfile.parse(shape) if shape else None, method=method.value if method else None,
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    if output is Format.JSON:
        write_json(found.to_dict())
        return
    if output is Format.CSV:
        write_csv(found.to_frame())
        return
    _print_partition(found)


def _print_partition(found: Partition) -> None:
    from collections import Counter

    from rich.markup import escape
    from rich.table import Table

    out = _console()
    out.print(f"\n[bold]{escape(found.model)}[/] {escape(found.title)}")
    out.print(f"[bold]{escape(found.head)}[/]   {len(found.fallbacks)} fall back")
    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for heading, justify in (
        ("#", "right"),
        ("runs in", "left"),
        ("operators", "right"),
        ("of them", "left"),
        ("why", "left"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for i, segment in enumerate(found.segments):
        kinds = ", ".join(f"{n} {op}" for op, n in Counter(o.op for o in segment.operators).most_common(4))
        why = dict.fromkeys(
            f"{o.op}{_at(o.source)}: {o.reason}" for o in segment.operators if o.reason
        )  # fmt: skip
        side = "[green]TensorRT[/]" if segment.runs_on == "tensorrt" else "[yellow]fallback[/]"
        if segment.runs_on == "tensorrt" and (found.method == "parser" or not found.proven):
            side = "[green]TensorRT?[/]"
        more = [f"and {len(why) - 4} more"] if len(why) > 4 else []
        table.add_row(
            str(i), side, str(len(segment.operators)), escape(kinds), escape("\n".join([*list(why)[:4], *more]))
        )
    out.print(table)
    for note in found.advice:
        out.print(f"[dim]{escape(note)}[/]")


def _at(source: Source) -> str:
    return f" at {Path(source.file).name}:{source.line}" if source.file else ""


class Asked(str, Enum):
    """Who of TensorRT is asked which nodes it takes."""

    PARSER = "parser"
    BUILDER = "builder"


@app.command()
def checks(
    model: ModelArgument,
    target: TargetOption = None,
    precision: Annotated[PrecisionName, typer.Option("--precision", "-p")] = PrecisionName.FP32,
    shape: ShapeOption = None,
    ask: Annotated[
        Asked | None,
        typer.Option(
            help="Who is asked which nodes TensorRT takes: its parser, or its builder, which refuses some of what the parser "
            "takes. By default the builder where the model is small.",
        ),
    ] = None,
    build: Annotated[bool, typer.Option("--build", help="Also build it, and look at the engine.")] = False,
    output: Annotated[Format, typer.Option("--format", "-f")] = Format.TABLE,
    session: SessionOption = "default",
) -> None:
    """Say what is likely to surprise about MODEL, and with --build about its engine: only what its data prove."""
    from workbench.model.shape_profile import ShapeProfile

    work = looking(session)
    profile = ShapeProfile.parse(shape) if shape else None
    source = work.add(model, shapes=profile)
    found = [
        work.checks(
            source, ask=ask.value if ask else None, shapes=profile, precision=precision.value,
            target=None if ask is Asked.PARSER else target,
        )
    ]  # fmt: skip
    if build:
        engine = work.build(
            found[0].name, targets=target or (), precision=precision.value, profiles=(profile,) if profile else ()
        )
        found.append(work.checks(engine))
    if output is Format.JSON:
        document = (
            found[-1].to_dict() if len(found) == 1 else {"model": found[0].to_dict(), "engine": found[1].to_dict()}
        )
        write_json(document)
        return
    if output is Format.CSV:
        import pandas as pd

        write_csv(pd.concat([each.to_frame() for each in found]))
        return
    from rich.markup import escape

    out = _console()
    colours = {"problem": "red", "cost": "yellow", "note": "blue"}
    for each in found:
        out.print(f"\n[bold]{escape(each.name)}[/]" + (f", engine {each.engine}" if each.engine else ", the model"))
        for one in each:
            out.print(f"[bold {colours[one.severity]}]{one.severity}[/]  [bold]{escape(one.title)}[/]")
            for line in (one.message, one.evidence, in_shell(one.remedy, one.shapes) or ""):
                out.print(f"    {escape(line)}", style=None if line is one.message else "dim")
        if not each.findings:
            out.print("Nothing found.")
        for text in each.unchecked:
            out.print(f"[dim]Not looked at: {escape(text)}[/]")


@app.command()
def samples(output: Annotated[Output, typer.Option("--format", "-f")] = Output.TABLE) -> None:
    """List the sample models."""
    from workbench.model import samples as known

    entries = list(known().values())
    if output is Output.JSON:
        write_json(entries, indent=1)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "inputs", "teaches"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        inputs = ", ".join(f"{n} {'x'.join(map(str, i['shape']))}" for n, i in entry["inputs"].items())
        table.add_row(entry["name"], inputs, entry["teaches"])
    _console().print(table)


@app.command()
def demo() -> None:
    """Run the main job on a sample model."""
    from workbench.compilers.config import BuildConfig
    from workbench.session.session import Session

    out = _console()
    out.print(
        "[bold]A residual block, as written in PyTorch, built by NVIDIA's own compiler for an RTX 40 GPU (sm89).[/]"
    )
    session = Session("demo")
    for precision in ("fp32", "fp16"):
        config = BuildConfig(targets="sm89", precision=precision)
        _print_plan(_watched(partial(session.engines.start, "residual_block", config), show=True), full=False)
    out.print(
        "\nYour own model:  [bold]workbench fusions model.onnx --target sm89[/]\n"
        "In a notebook:   [bold]workbench lab[/]      What this machine can do:  [bold]workbench doctor[/]"
    )


@app.command()
def bench(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Sample models.")],
    batch: Annotated[str, typer.Option(help="Batch sizes, with commas.")] = "1,32",
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8, fp8, with commas.")] = "fp32,fp16",
    output: Annotated[Output, typer.Option("--format", "-f")] = Output.TABLE,
    results: Annotated[
        Path | None, typer.Option("--results", help="File to keep results in; a run goes on from it.")
    ] = None,
    ways: Annotated[str, typer.Option(help="Columns, with commas; all by default.")] = "",
    session: SessionOption = "bench",
) -> None:
    """Time models through PyTorch, torch.compile, Torch-TensorRT and TensorRT on this machine's GPU, with errors."""
    from workbench.experiments.bench import WAYS, Bench, table
    from workbench.session.session import Session

    if not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6})*", batch):
        raise typer.BadParameter("batch sizes are whole numbers with commas between", param_hint="--batch")
    sizes = [int(b) for b in batch.split(",") if b]
    work = Bench(Session(session), models, sizes, precision.split(","), results, ways.split(",") if ways else WAYS)
    console = _console(stderr=True)
    document = work.run(
        lambda row: console.print(f"{row['model']}, batch {row['batch']}, {row['precision']}: done", markup=False)
    )
    if output is Output.JSON:
        write_json(document, indent=1)
        return
    from rich.markup import escape
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold dim")
    for heading in ("model", "batch", "precision", *WAYS):
        shown.add_column(heading, justify="left" if heading == "model" else "right")
    for cells in table(document):
        shown.add_row(*map(escape, cells))
    _console().print(shown)


@app.command()
def doctor(
    output: Annotated[Output, typer.Option("--format", "-f")] = Output.TABLE,
) -> None:
    """Say what this machine and install can do, and the command for each thing that is missing."""
    from workbench.doctor import examine

    report = examine()
    if output is Output.JSON:
        write_json(report, indent=1)
    else:
        from rich.markup import escape
        from rich.table import Table

        out = _console()
        table = Table(box=None, pad_edge=False, show_header=False)
        for row in report["checks"]:
            mark = {"yes": "[green]yes[/]", "no": "[red]no[/] ", "partly": "[yellow]partly[/]"}[row["state"]]
            table.add_row(mark, f"[bold]{row['what']}[/]", escape(row["found"]))
            if row.get("command"):
                table.add_row("", "", f"[cyan]{escape(row['command'])}[/]")
        out.print(table)
    if not report["can_build"]:
        raise typer.Exit(1)


@app.command()
def lab(
    notebook: Annotated[Path | None, typer.Argument(help="Notebook to open; the tour by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Open JupyterLab on the tour."""
    import importlib.util
    import subprocess

    if importlib.util.find_spec("jupyterlab") is None:
        raise WorkbenchError("JupyterLab is not installed.", hint="pip install 'trt-workbench[lab]'")
    place = notebook or _tour()
    command = [sys.executable, "-m", "jupyterlab", str(place), "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}"] if port else []
    command += [] if browser else ["--no-browser"]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _tour() -> Path:
    """The tour: in a checkout the notebook itself, else a copy in the current folder, which may be edited."""
    import shutil

    package = Path(__file__).parents[1]
    checkout = package.parent / "notebooks" / "00_tour.ipynb"
    if checkout.is_file():
        return checkout
    copy = Path("00_tour.ipynb")
    if not copy.exists():
        shutil.copyfile(package / "_notebooks" / "00_tour.ipynb", copy)
    return copy


def _watched(start: Callable[[], Build], *, show: bool) -> Engine:
    """Run a build with a progress line on standard error; Ctrl-C cancels it."""
    from rich.markup import escape

    console = _console(stderr=True)
    if not show or not console.is_terminal:
        return start().result()
    with console.status("Starting") as status:
        build = start()

        def tell(now: Build) -> None:
            steps = [
                f"{p.phase} {p.done}/{p.total}" if p.total > 1 else p.phase for p in now.progress if p.done < p.total
            ]
            text = visible(steps[-1] if steps else now.message or "Working")
            status.update(f"{now.seconds:5.1f} s  {escape(text)}")

        build.on_change(tell)
        return build.result()


def _device(name: str | None) -> DeviceSpec | None:
    from workbench.hardware.devices import device

    return None if name is None else device(name)


def _write_plan(plan: Plan, output: Format, device: DeviceSpec | None) -> None:
    """The plan on standard output, as JSON or CSV; estimates are columns of the CSV and facts of the JSON."""
    from workbench.analysis import roofline

    found = roofline.estimates(plan, device) if device else {}
    if output is Format.JSON:
        document = plan.to_dict()
        facts = {**document["facts"], **({"estimate": roofline.document(found, device)} if device else {})}
        write_json({**document, "facts": facts})
        return
    frame = plan.to_frame()
    if device:
        frame["estimated_ms"] = [found[layer.id].time_ms for layer in plan.layers]
        frame["efficiency"] = [found[layer.id].efficiency for layer in plan.layers]
    write_csv(frame)


def _print_plan(engine: Engine, *, full: bool, device: DeviceSpec | None = None) -> None:
    from rich.markup import escape

    plan, out = engine.plan, _console()
    how = "from the cache" if engine.cached else f"built in {plan.seconds['total']:.1f} s"
    compiler = "for {target} by {name} {version}".format_map(plan.compiler)
    out.print(
        f"\n[bold]{escape(str(plan.model['name']))}[/] " + escape(f"{compiler}, {engine.config.precision}, {how}")
    )
    _print_layers(plan, full=full, device=device)


def _print_layers(plan: Plan, *, full: bool, device: DeviceSpec | None = None) -> None:
    """What the plan sums up to, its layers as a table, and notes. Times and estimates have columns where known."""
    from rich.markup import escape
    from rich.table import Table

    from workbench.analysis import roofline
    from workbench.core.units import bytes_text, flops_text
    from workbench.plan import traffic
    from workbench.plan.columns import Rows, columns
    from workbench.plan.memory import disagreement
    from workbench.plan.reasons import NO_KERNEL

    out = _console()
    s = plan.summary
    names = {name for layer in plan.layers for name in layer.nodes}
    modelled = s["launches_before"] is not None
    before = f"{s['launches_before']} → " if modelled else ""
    told = any(layer.bytes is not None for layer in plan.layers)
    peak = traffic.at_least(s["peak_activation_bytes"], s.get("peak_unknown", 0))
    out.print(
        f"[bold]{before}{s['launches_after']}[/] {plan.launches_name}   "
        + (f"[bold]{escape(traffic.moved_text(s))}[/]   " if told else "")
        + (f"{flops_text(s['flops'], s.get('flops_unknown') or 0)}   " if modelled else "")
        + (f"peak activations {peak}   weights {bytes_text(s['weight_bytes'])}" if told else "")
    )
    found = roofline.estimates(plan, device) if device else {}
    rows = Rows(
        plan,
        estimates={name: estimate.time_ms for name, estimate in found.items()},
        efficiencies={name: estimate.efficiency for name, estimate in found.items()},
    )
    # An engine read without its model has names for nodes and no sources: such columns would say nothing.
    by_name = not modelled and all(layer.title == " + ".join(layer.nodes) for layer in plan.layers if layer.nodes)
    placed = any(layer.sources for layer in plan.layers)
    shown = [
        c for c in columns(rows, "cli") if not (c.name == "names" and by_name) and (c.name != "source" or placed)
    ]  # fmt: skip
    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for c in shown:
        look: dict[str, Any] = dict(_LOOKS.get(c.name, {}))
        if c.name == "title":
            look |= {"ratio": 1} if by_name else {"max_width": 44}
        justify: Literal["left", "right"] = "right" if c.type in {"number", "bytes"} else "left"
        heading = _HEADINGS.get(c.name, c.label.lower())
        table.add_column(
            heading, justify=justify, style="italic" if c.source == "estimated" else look.pop("style", None), **look
        )
    hidden = 0
    for layer in plan.layers:
        if layer.kind in {"sync", "noop", "control"} and not full:
            hidden += 1
            continue
        table.add_row(*(_cell(c, layer, rows, full=full) for c in shown))
    out.print(table)
    notes = [text.removesuffix(".") for text in plan.problems[:8]]
    if hidden:
        notes.append(
            f"{hidden} layers that launch nothing (stream events, jumps, no-operations) are not shown (--full)"
        )
    if device:
        notes += roofline.notes(found, device)
    if not modelled:
        notes.append(
            "without the model (--model) nodes are the names that the compiler reports, and operations are not counted"
        )
    if plan.unclaimed:
        needless = {reason: n for reason, n in s["unclaimed"].items() if reason in NO_KERNEL}
        rest = {reason: n for reason, n in s["unclaimed"].items() if reason not in NO_KERNEL}
        if needless:
            reasons = ", ".join(f"{n} {reason}" for reason, n in needless.items())
            notes.append(f"{sum(needless.values())} of {s['nodes']} nodes need no kernel of their own: {reasons}")
        if rest:
            reasons = ", ".join(f"{n} {reason}" for reason, n in rest.items())
            notes.append(f"which kernel runs {sum(rest.values())} of {s['nodes']} nodes is not known: {reasons}")
    guessed = len({name for layer in plan.layers for name in layer.inferred})
    if guessed:
        notes.append(
            f"{guessed} node{'s are' if guessed > 1 else ' is'} placed in a kernel by inference: the compiler does not name "
            f"{'them' if guessed > 1 else 'it'} there"
        )
    if s.get("other_branches"):
        notes.append(
            f"of each If one branch runs: {s['other_branches']} launches of the smaller branches are not in the sums"
        )
    if s.get("repeated"):
        notes.append(f"{s['repeated']} kernels run at each turn of a loop and count as one launch each")
    if wrong := disagreement(plan.facts):
        notes.append(wrong)
    if s["merged"]:
        notes.append(f"{s['merged']} layers do sibling operations in one launch")
    if s["bytes_unknown"]:
        notes.append(f"bytes of {s['bytes_unknown']} nodes or layers are not known and not in the sums")
    if not names and any(layer.kind != "sync" for layer in plan.layers):
        notes.append("no layer carries the name of a node of the model, so which node runs where is not known")
    for note in notes:
        out.print(f"[dim]{escape(note)}[/]")


_HEADINGS = {"names": "nodes", "time": "ms", "share": "%", "least": "est. ms", "efficiency": "of peak"}
"""Headings that are shorter than the columns' own: a terminal is narrow."""

_LOOKS: dict[str, dict[str, Any]] = {
    "index": {"style": "dim"}, "title": {"overflow": "fold"}, "names": {"overflow": "fold", "ratio": 1},
    "source": {"overflow": "fold", "max_width": 36},
}  # fmt: skip


def _cell(column: Column, layer: Layer, rows: Rows, *, full: bool) -> str:
    """A cell of the table of layers, with rich's markup."""
    from rich.markup import escape

    from workbench.charts.palette import TERMINAL

    if column.name == "kind":
        return f"[{TERMINAL.get(layer.kind, 'default')}]{escape(layer.kind)}[/]"
    if column.name == "title":
        return escape(layer.title)
    if column.name == "names":
        return escape(_nodes(layer, full=full)) or "[dim]none: overhead[/]"
    if column.name == "source":
        return escape(_where(layer))
    if column.unit in {"ms", "%"}:  # one unit for the whole column, so that figures compare
        value = column.get(layer, rows)
        digits = 4 if column.unit == "ms" else 1 if column.source == "measured" else 0
        return "" if value is None else f"{value:.{digits}f}" + "%" * (digits == 0)
    text = column.display(layer, rows)
    return escape(text) if text or column.type != "bytes" else "?"


def _nodes(layer: Layer, *, full: bool) -> str:
    names = list(layer.nodes)
    if full or len(names) <= 4:
        return " + ".join(names)
    return " + ".join(names[:3]) + f" + {len(names) - 3} more"


def _where(layer: Layer) -> str:
    """Module scope, and the lines of the file that holds most of the layer."""
    files: dict[str, set[int]] = {}
    for source in layer.sources:
        if source.file:
            files.setdefault(Path(source.file).name, set()).add(source.line)
    if not files:
        return next((s.scope for s in layer.sources if s.scope), "")
    name = max(files, key=lambda f: len(files[f]))
    lines = sorted(files[name])
    return f"{name}:{','.join(map(str, lines[:4]))}" + ("…" if len(lines) > 4 else "")


cli_convert.register(app)
cli_audit.register(app)
cli_calibration.register(app)
cli_archive.register(app)
app.add_typer(cli_env.app, name="env")


def main() -> None:
    """Run the command line. An error that a user can fix is printed without a traceback."""
    warnings.showwarning = _warn
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup asks to ignore it
            signal.signal(number, _end)  # so that unfinished files are removed
    _open_streams()
    try:
        try:
            app(standalone_mode=True)
        finally:
            sys.stdout.flush()  # else what is still to be written is found out too late to say so
    except WorkbenchError as error:
        _fail(error)
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        from workbench.core.store import UNWRITABLE, unwritable

        found = unwritable(error.filename or "The disk", error)
        plain = WorkbenchError(f"{error}.", hint="Check the path and its permissions.")
        _fail(found if found.code in UNWRITABLE - {"not-permitted"} else plain)
    except KeyboardInterrupt:
        sys.stderr.write("Cancelled.\n")
        sys.exit(130)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    del filename, lineno, file, line
    from rich.markup import escape

    words = str(message) if issubclass(category, ExportWarning) else f"{category.__name__}: {message}"
    _console(stderr=True).print(f"[yellow]{escape(visible(words))}[/]", soft_wrap=True)


def _end(number: int, _frame: Any) -> Any:
    sys.exit(128 + number)


def _open_streams() -> None:
    """Standard streams that were closed lead nowhere, and what the terminal's encoding lacks is written out.

    A file that is opened later would else become standard output, and be written over.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, mode, closefd=False)  # noqa: SIM115 - for as long as the process lives
            setattr(sys, name, stream)
        if mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(error: WorkbenchError) -> Any:
    from rich.markup import escape

    console = _console(stderr=True)
    console.print(f"[bold red]Error:[/] {escape(error.message)}", soft_wrap=True)
    if hint := in_shell(error.hint, error.details.get("shapes")):
        console.print(f"[cyan]{escape(hint)}[/]", soft_wrap=True)
    sys.exit(1)
