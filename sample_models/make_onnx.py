"""Regenerate the committed .onnx files: `python sample_models/make_onnx.py [NAME ...]`.

Two runs give the same bytes. Files keep the exporter's provenance (`pkg.torch.onnx.*`), with one
change: a stack trace holds only the frames of this folder, under the path `sample_models/FILE.py`,
so that the files hold no path of the machine that made them. Every sample, committed or not, is also
compared with its entry in manifest.json, and the table in README.md is written from it.
"""

import argparse
import importlib.util
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent
MARKS = ("<!-- samples -->", "<!-- /samples -->")
STACK_TRACE = "pkg.torch.onnx.stack_trace"
FRAME = re.compile(r'\s*File "(?P<path>.+)", line (?P<line>\d+), in (?P<function>.+)')

Example = tuple[nn.Module, tuple[Tensor, ...]]


def load(file: str) -> Example:
    """Import a sample by its path and call its `build`."""
    path = FOLDER / file
    spec = importlib.util.spec_from_file_location(f"sample_models.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built: Example = module.build()
    return built


def compare(entry: dict[str, Any], model: nn.Module, examples: tuple[Tensor, ...]) -> None:
    """Exit with a message if the manifest and the module differ."""
    names = list(inspect.signature(model.forward).parameters)
    found = {
        name: (list(example.shape), str(example.dtype).removeprefix("torch."))
        for name, example in zip(names, examples, strict=True)
    }
    stated = {name: (tensor["shape"], tensor["dtype"]) for name, tensor in entry["inputs"].items()}
    if found != stated:
        sys.exit(f"manifest.json, {entry['name']}: inputs are {found}, not {stated}")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if parameters != entry["parameters"]:
        sys.exit(f"manifest.json, {entry['name']}: {parameters} parameters")


def own_frames(trace: str) -> str:
    """Keep the frames of this folder, with a path relative to the folder above it."""
    kept: list[str] = []
    keeping = False
    for line in trace.splitlines():
        if frame := FRAME.fullmatch(line):
            path = Path(frame["path"])
            keeping = path.parent == FOLDER
            if keeping:
                where = f"{FOLDER.name}/{path.name}"
                kept.append(f'  File "{where}", line {frame["line"]}, in {frame["function"]}')
        elif keeping:
            kept.append(line)
    return "\n".join(kept).strip()


def export(model: nn.Module, examples: tuple[Tensor, ...]) -> bytes:
    """Export with provenance and without the paths of this machine."""
    with torch.no_grad():
        program = torch.onnx.export(model, examples, dynamo=True, verbose=False)
    assert program is not None
    proto = program.model_proto
    for node in proto.graph.node:
        for item in node.metadata_props:
            if item.key == STACK_TRACE:
                item.value = own_frames(item.value)
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def write_table(manifest: list[dict[str, Any]]) -> None:
    """Write the table of samples between its two marks in README.md."""
    rows = [f"| [{entry['name']}]({entry['file']}) | {entry['teaches']} | {entry['expect']} |" for entry in manifest]
    table = "\n".join(["| sample | teaches | what to see |", "|---|---|---|", *rows])
    readme = FOLDER / "README.md"
    before, _, rest = readme.read_text("utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    readme.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}", "utf-8")


def main() -> None:
    """Check every sample against the manifest and write the files that it names."""
    parser = argparse.ArgumentParser(description="Regenerate the committed .onnx files.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="samples; all if none is given")
    wanted = parser.parse_args().names
    manifest: list[dict[str, Any]] = json.loads((FOLDER / "manifest.json").read_text("utf-8"))
    if unknown := set(wanted) - {entry["name"] for entry in manifest}:
        sys.exit(f"not in manifest.json: {', '.join(sorted(unknown))}")
    write_table(manifest)
    for entry in manifest:
        if wanted and entry["name"] not in wanted:
            continue
        model, examples = load(entry["file"])
        compare(entry, model, examples)
        if entry["committed_onnx"] is None:
            continue
        data = export(model, examples)
        target = FOLDER / entry["committed_onnx"]
        same = target.exists() and target.read_bytes() == data
        target.write_bytes(data)
        print(f"{target.name:28} {len(data):7} bytes, {'unchanged' if same else 'written'}")


if __name__ == "__main__":
    main()
