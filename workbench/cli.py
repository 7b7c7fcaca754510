"""The same calls from the shell.

Exit codes: 0 done, 1 the model or the build failed (the reason on standard error), 2 wrong use. With
``--format json`` standard output holds one JSON document and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import cli_precision
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from rich.console import Console

    from workbench.build import Build, Engine
    from workbench.plan import Layer

app = typer.Typer(
    add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="See what an inference compiler makes of your model.",
)  # fmt: skip


class Format(str, Enum):
    """How a result is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class PrecisionName(str, Enum):
    """Precisions that a build may be asked for."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="An ONNX file, a sample's name, or package.module:factory."),
]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", "-t", help="GPU to build for: sm75 ... sm121, current; several with +."),
]
SessionOption = Annotated[str, typer.Option("--session", help="Session to work in.")]


@app.command()
def fusions(
    model: ModelArgument,
    target: TargetOption = None,
    precision: Annotated[PrecisionName, typer.Option("--precision", "-p")] = PrecisionName.FP32,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            "-s",
            metavar="NAME=SHAPE",
            help="1x3x224x224, or min:opt:max. Repeat for more inputs.",
        ),
    ] = None,
    output: Annotated[Format, typer.Option("--format", "-f")] = Format.TABLE,
    session: SessionOption = "default",
    compiler: Annotated[str, typer.Option(help="Which compiler (see doctor).")] = "tensorrt",
    optimization_level: Annotated[int | None, typer.Option(help="Builder effort, 0 to 5.")] = None,
    engine: Annotated[Path | None, typer.Option("--engine", help="Also save the serialized engine here.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which the build is stopped.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Every node name, and layers that own no node.")] = False,
) -> None:
    """Show which operations of MODEL the compiler turns into one kernel."""
    from workbench.config import BuildConfig, ShapeProfile
    from workbench.session import Session

    profiles = (ShapeProfile.parse(shape),) if shape else ()
    config = BuildConfig(
        compiler=compiler, targets=target or (), precision=precision.value, profiles=profiles,
        optimization_level=optimization_level,
    )  # fmt: skip
    with_progress = output is Format.TABLE
    work = Session(session)
    built = _watched(lambda: work.start_build(model, config, time_limit=time_limit), show=with_progress)
    if engine is not None:
        built.save(engine)
    if output is Format.JSON:
        sys.stdout.write(built.plan.to_json() + "\n")
    elif output is Format.CSV:
        sys.stdout.write(built.plan.to_frame().to_csv(index=False))
    else:
        _print_plan(built, full=full)


@app.command()
def samples(output: Annotated[Format, typer.Option("--format", "-f")] = Format.TABLE) -> None:
    """List the sample models."""
    from workbench.model import samples as known

    entries = list(known().values())
    if output is Format.JSON:
        import json

        sys.stdout.write(json.dumps(entries, indent=1) + "\n")
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
    from workbench.config import BuildConfig
    from workbench.session import Session

    out = _console()
    out.print(
        "[bold]A residual block, as written in PyTorch, built by NVIDIA's own compiler for an RTX 40 GPU (sm89).[/]"
    )
    session = Session("demo")
    for precision in ("fp32", "fp16"):
        config = BuildConfig(targets="sm89", precision=precision)
        _print_plan(_watched(partial(session.start_build, "residual_block", config), show=True), full=False)
    out.print(
        "\nYour own model:  [bold]workbench fusions model.onnx --target sm89[/]\n"
        "In a notebook:   [bold]workbench lab[/]      What this machine can do:  [bold]workbench doctor[/]"
    )


@app.command()
def doctor(
    output: Annotated[Format, typer.Option("--format", "-f")] = Format.TABLE,
) -> None:
    """Say what this machine and install can do, and the command for each thing that is missing."""
    from workbench.doctor import examine

    report = examine()
    if output is Format.JSON:
        import json

        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    else:
        from rich.table import Table

        out = _console()
        table = Table(box=None, pad_edge=False, show_header=False)
        for row in report["checks"]:
            mark = {"yes": "[green]yes[/]", "no": "[red]no[/] ", "partly": "[yellow]partly[/]"}[row["state"]]
            table.add_row(mark, f"[bold]{row['what']}[/]", row["found"])
            if row.get("command"):
                table.add_row("", "", f"[cyan]{row['command']}[/]")
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

    package = Path(__file__).parent
    checkout = package.parent / "notebooks" / "00_tour.ipynb"
    if checkout.is_file():
        return checkout
    copy = Path("00_tour.ipynb")
    if not copy.exists():
        shutil.copyfile(package / "_notebooks" / "00_tour.ipynb", copy)
    return copy


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def _watched(start: Callable[[], Build], *, show: bool) -> Engine:
    """Run a build with a progress line on standard error; Ctrl-C cancels it."""
    console = _console(stderr=True)
    if not show or not console.is_terminal:
        return start().result()
    with console.status("Starting") as status:
        build = start()

        def tell(now: Build) -> None:
            steps = [
                f"{p.phase} {p.done}/{p.total}" if p.total > 1 else p.phase for p in now.progress if p.done < p.total
            ]
            status.update(f"{now.seconds:5.1f} s  " + (steps[-1] if steps else now.message or "Working"))

        build.on_change(tell)
        return build.result()


def _print_plan(engine: Engine, *, full: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from workbench.units import bytes_text, count_text

    plan, out = engine.plan, _console()
    s = plan.summary
    names = {name for layer in plan.layers for name in layer.nodes}
    how = "from the cache" if engine.cached else f"built in {plan.seconds['total']:.1f} s"
    out.print(
        f"\n[bold]{escape(str(plan.model['name']))}[/] for {plan.compiler['target']} by {plan.compiler['name']} "
        f"{plan.compiler['version']}, {engine.config.precision}, {how}"
    )
    out.print(
        f"[bold]{s['launches_before']} → {s['launches_after']}[/] kernel launches   "
        f"[bold]{bytes_text(s['bytes_before'])} → {bytes_text(s['bytes_after'])}[/] moved   "
        f"{count_text(s['flops'])}FLOP   peak activations {bytes_text(s['peak_activation_bytes'])}   "
        f"weights {bytes_text(s['weight_bytes'])}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold dim")
    table.add_column("#", justify="right", style="dim")
    table.add_column("kind")
    table.add_column("layer", overflow="fold", max_width=44)
    table.add_column("nodes", overflow="fold", ratio=1)
    table.add_column("source", overflow="fold", max_width=36)
    table.add_column("type")
    table.add_column("moves", justify="right")
    hidden = 0
    for i, layer in enumerate(plan.layers):
        if layer.kind == "sync" and not full:
            hidden += 1
            continue
        table.add_row(
            str(i), f"[{_COLOURS.get(layer.kind, 'default')}]{layer.kind}[/]", escape(layer.title),
            escape(_nodes(layer, full=full)) or "[dim]none: overhead[/]", escape(_where(layer)), _short(layer.precision),
            bytes_text(layer.bytes) if layer.bytes is not None else "?",
        )  # fmt: skip
    out.print(table)
    notes = []
    if hidden:
        notes.append(f"{hidden} stream signals and waits are not shown (--full)")
    if plan.unclaimed:
        reasons = ", ".join(f"{n} {reason}" for reason, n in s["unclaimed"].items())
        notes.append(f"{len(plan.unclaimed)} of {s['nodes']} nodes need no kernel of their own: {reasons}")
    if s["merged"]:
        notes.append(f"{s['merged']} layers do sibling operations in one launch")
    if s["bytes_unknown"]:
        notes.append(f"bytes of {s['bytes_unknown']} nodes or layers are not known and not in the sums")
    if not names:
        notes.append("no layer names a node: this compiler does not report its fusions")
    for note in notes:
        out.print(f"[dim]{escape(note)}[/]")


_COLOURS = {
    "conv": "blue", "gemm": "blue", "attention": "magenta", "pointwise": "green", "norm": "green", "softmax": "green",
    "reduction": "green", "pooling": "cyan", "layout": "yellow", "cast": "yellow", "sync": "dim", "shape": "dim",
}  # fmt: skip


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


def _short(dtype: str) -> str:
    return {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float8e4m3fn": "fp8"}.get(dtype, dtype)


cli_precision.register(app)


def main() -> None:
    """Run the command line; errors that a user can mend are told without a traceback."""
    try:
        app(standalone_mode=True)
    except WorkbenchError as error:
        _fail(error)
    except BrokenPipeError:
        sys.exit(1)  # whoever read the output has gone
    except OSError as error:
        _fail(WorkbenchError(f"{error}.", hint="Check the path and its permissions."))
    except KeyboardInterrupt:
        sys.stderr.write("Cancelled.\n")
        sys.exit(130)


def _fail(error: WorkbenchError) -> Any:
    from rich.markup import escape

    console = _console(stderr=True)
    console.print(f"[bold red]Error:[/] {escape(error.message)}", soft_wrap=True)
    if error.hint:
        console.print(f"[cyan]{escape(error.hint)}[/]", soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
