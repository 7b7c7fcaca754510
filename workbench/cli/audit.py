"""The commands ``audit`` and ``placement``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.frames import print_compared, print_frame
from workbench.cli.model_file import export_model
from workbench.cli.options import (
    FormatOption,
    ModelArgument,
    Output,
    SessionOption,
    SizeOption,
    check_written,
    console,
    looking,
    write_json,
)
from workbench.cli.progress import watch_jobs
from workbench.core.errors import StoreError, WorkbenchError

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.precision.audit import Audit
    from workbench.session.session import Session


def audit(
    what: Annotated[str, typer.Argument(metavar="ENGINE_OR_MODEL", help="The beginning of an engine's key, or a model to build.")],
    target: Annotated[str | None, typer.Option("--target", "-t", help="GPU to build for, if a build is needed.")] = None,
    precision: Annotated[str, typer.Option("--precision", "-p", help="Precision of the build; fp32 leaves the graph unchanged.")] = "fp32",
    against: Annotated[
        list[str] | None,
        typer.Option("--against", help="An engine or model to compare with; MODEL@fp16 builds it in FP16. Repeat for more."),
    ] = None,
    asked: Annotated[str | None, typer.Option(help="The precision that you wanted: fp16, int8, ...")] = None,
    shape: SizeOption = None,
    how: FormatOption = Output.TABLE,
    session: SessionOption = "default",
    full: Annotated[bool, typer.Option("--full", help="Show every layer.")] = False,
) -> None:  # fmt: skip
    """Compare the precision of each kernel of a build with the one you asked for, and show what differences cost."""
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
        print_compared(compare(plans))
        for name, plan in others.items():
            console().print(verdict(engine.plan, plan, (what, name)), markup=False)


def placement(
    model: ModelArgument,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Move the pairs and write the model to this file.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Kind of pair to move: activation, residual, concat, pooling. Repeat for more. Default: all but residual."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Build the model before and after for this GPU, and compare.")
    ] = None,
    how: FormatOption = Output.TABLE,
    session: SessionOption = "default",
) -> None:  # fmt: skip
    """Find Q/DQ pairs of a quantized MODEL that prevent fusions, and move them."""
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
        low = watch_jobs(lambda on_job: fix(source, work.store, kinds=kind or DEFAULT, on_job=on_job))
        document |= {"removed": low.origin["removed"], "added": low.origin["added"]}
        if output is not None:
            export_model(low, output)
        if target is not None:
            frame = compare(
                {"as it is": work.build(source, target=target).plan, "moved": work.build(low, target=target).plan}
            )
            document["compared"] = json.loads(frame.to_json())
    if how is Output.JSON:
        write_json(document, indent=1)
        return
    for misplaced in found:
        console().print(misplaced.text, markup=False, soft_wrap=True)
    if not found:
        console().print("No pair is misplaced.")
    if output is not None:
        console().print(
            f"written {output}: {document['removed']} pairs removed, {document['added']} moved to the input of a matrix product",
            markup=False,
        )
    if frame is not None:
        print_compared(frame)


def _engine(work: Session, text: str, target: str | None, precision: str, shape: list[str] | None) -> Engine:
    """The engine of the session whose key begins with `text`, or a build of a model (``NAME@precision``)."""
    from workbench.compilers.config import BuildConfig
    from workbench.model.shape_profile import ShapeProfile

    path = Path(text)
    if path.is_file() and path.suffix in {".engine", ".plan", ".trt"}:
        raise StoreError(
            f"{text} is a serialized engine, which can be read only on the GPU it was built for.",
            hint="Give the model that it was built from, or the key of an engine of the session (session.engines).",
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

    out, plan = console(), found.plan
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
        print_frame(frame[["layer", "kind", "reads", "stores", "bytes", "findings"]])


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (audit, placement):
        app.command()(command)
