"""Every reader of what a stranger may have written, with small valid inputs. Each answers, or raises a `WorkbenchError`."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import Mutator, of_bytes, of_json, of_protobuf, of_zip

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"


@dataclass(frozen=True)
class Reader:
    """A reader: `seeds` that it accepts, how they are changed, and the call, in a folder of its own.

    `weight` is how often it is tried, beside the others: those that start processes are slow.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], Any]
    mutators: Sequence[Mutator] = (of_bytes,)
    weight: float = 1.0


READERS: dict[str, Reader] = {}


def reader(
    name: str, seeds: Callable[[], Sequence[bytes]], *mutators: Mutator, weight: float = 1.0
) -> Callable[[Callable[[bytes, Path], Any]], Callable[[bytes, Path], Any]]:
    """Add a function to `READERS`."""

    def add(read: Callable[[bytes, Path], Any]) -> Callable[[bytes, Path], Any]:
        READERS[name] = Reader(name, cache(seeds), read, mutators or (of_bytes,), weight)
        return read

    return add


def text(data: bytes) -> str:
    """As the readers of files decode it."""
    return data.decode("utf-8", "surrogateescape")


def put(folder: Path, name: str, data: bytes) -> Path:
    file = folder / name
    file.write_bytes(data)
    return file


def shown(plan: Any) -> None:
    """What becomes of a plan: JSON, tables, words, charts."""
    from workbench.analysis.times import explain
    from workbench.charts import plan as figures
    from workbench.compilers.tensorrt import trtexec
    from workbench.core.safe_text import csv_text, json_text
    from workbench.plan import Plan

    document = plan.to_dict()
    if len(plan.layers) > 200 or zlib.crc32(repr(document["layers"][:1]).encode("utf-8", "replace")) % 8:
        return  # what follows takes long
    again = Plan.from_dict(json.loads(json_text(document)))
    csv_text(again.to_frame())
    explain(again)
    trtexec.layers_document(again)
    figures.precisions(again)
    figures.memory(again)


# --- ONNX -------------------------------------------------------------------------------------------


def models() -> list[bytes]:
    from onnx import TensorProto, helper

    from tests.support.small_models import chain, constant, mlp, model, node, value, weights

    looped = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Add", ["s", "s"], ["t"])], "body",
        [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("s", [2])], [value("d", [], TensorProto.BOOL), value("t", [2])],
    )  # fmt: skip
    control = model(
        [node("Loop", ["n", "", "x"], ["y"], "loop", body=looped), node("Reshape", ["y", "shape"], ["z"]), node("Relu", ["z"], ["r"])],
        [value("x", [2]), value("n", [], TensorProto.INT64)], [value("r", None)], [constant("shape", [1, -1], "int64")],
    )  # fmt: skip
    arithmetic = model(
        [node("Shape", ["x"], ["s"]), node("Range", ["zero", "length", "one"], ["r"]), node("Gather", ["s", "zero"], ["b"]),
         node("Unsqueeze", ["b", "axis"], ["u"]), node("Concat", ["u", "minus"], ["target"], axis=0), node("Reshape", ["x", "target"], ["y"]),
         node("Einsum", ["y", "y"], ["e"], equation="ij,kj->ik")],
        [value("x", ["batch", 8])], [value("e", None)],
        [constant("zero", 0, "int64"), constant("length", 6, "int64"), constant("one", 1, "int64"), constant("axis", [0], "int64"), constant("minus", [-1], "int64")],
    )  # fmt: skip
    conv = model([node("Conv", ["x", "w"], ["y"], "c", pads=[1, 1, 1, 1]), node("QuantizeLinear", ["y", "s"], ["q"]), node("DequantizeLinear", ["q", "s"], ["d"])],
                 [value("x", ["n", 3, 8, 8])], [value("d", None)], [weights("w", 4, 3, 3, 3), constant("s", 0.1)])  # fmt: skip
    made = [mlp(), mlp("batch"), chain(["a", "b"]), control, arithmetic, conv]
    for proto in made[:2]:
        for i, each in enumerate(proto.graph.node):
            for key, content in (("namespace", "a/b"), ("pkg.torch.onnx.name_scopes", "['', 'layers.0', 'mm']"), ("pkg.torch.onnx.class_hierarchy", "['M', 'Linear', 'aten']"),
                                 ("pkg.torch.onnx.stack_trace", f'File "net.py", line {i}, in forward\n    return self.a(x)')):  # fmt: skip
                entry = each.metadata_props.add()
                entry.key, entry.value = key, content
    return [proto.SerializeToString() for proto in made]


@reader("onnx", models, of_protobuf)
def _onnx(data: bytes, folder: Path) -> Any:
    from workbench.model import Model

    model = Model("m", put(folder, "m.onnx", data))
    assert model.graph.nodes is not None
    _ = model.provenance, model.bytes, model.operators(), model.companions
    return model.to_frame()


@reader("onnx-shapes", models, of_protobuf, weight=0.5)
def _onnx_shapes(data: bytes, folder: Path) -> Any:
    from workbench.model import Model

    graph = Model("m", put(folder, "m.onnx", data)).graph
    shapes = {
        name: tuple(d if isinstance(d, int) and d > 0 else 4 for d in graph.tensor(name).shape or ())
        for name in graph.inputs
    }
    return graph.at(shapes).nodes


TRACE = [
    b'File "/a/b.py", line 3, in forward\n    x = self.a(x)\nFile "/torch/nn/m.py", line 7, in g\n    y',
    b"['', 'a', 'a.b']",
    b"('x', \"y\")",
]


@reader("provenance", lambda: TRACE)
def _provenance(data: bytes, _folder: Path) -> Any:
    from workbench.model.provenance import _frame, _strings

    return _frame(text(data)), _strings(text(data))


# --- logs -------------------------------------------------------------------------------------------


def listings() -> list[bytes]:
    return [f.read_bytes() for f in sorted((DATA / "listings").glob("*/*.txt"))]


@reader("listing", listings)
def _listing(data: bytes, _folder: Path) -> Any:
    from workbench.compilers.tensorrt.listing import parse_listing
    from workbench.compilers.tensorrt.vocabulary import TensorRTVocabulary
    from workbench.plan.from_layers import from_layers

    found = parse_listing(text(data), "fuzz")
    if len(found.layers) < 200:
        record: Any = {
            "compiler": {"name": "tensorrt", "version": "", "target": ""},
            "seconds": {},
            "layers": found.layers,
            "io": found.io,
        }
        shown(from_layers(record, name="m", evidence="reported", vocabulary=TensorRTVocabulary()))
    return found


NAMES = [
    b"PWN(PWN(a, b), c) + d || e",
    b"{ForeignNode[/a/b.../c]}",
    b"Reformatting CopyNode for Input Tensor 0 to a + b",
    b"w + Q_1_quantize_scale_node + (Unnamed Layer* 3) [Shuffle]",
]


@reader("layer-name", lambda: NAMES)
def _layer_name(data: bytes, _folder: Path) -> Any:
    from workbench.compilers.tensorrt.inspector import nodes_in
    from workbench.compilers.tensorrt.words import kind_of, title_of

    name = text(data)
    nodes = nodes_in(name, {"a", "b"})
    return nodes, title_of("kgen", name, kind_of("kgen", name, nodes) or "other", nodes)


def logs() -> list[bytes]:
    from tests.support.tactic_logs import MODERN, OLD

    return [MODERN.encode(), OLD.encode()]


@reader("tactics", logs)
def _tactics(data: bytes, _folder: Path) -> Any:
    from workbench.compilers.tensorrt.tactics import parse_tactics

    return parse_tactics(text(data).splitlines(keepends=True))


# --- trtexec ----------------------------------------------------------------------------------------


def inspector_files() -> list[bytes]:
    return [f.read_bytes() for f in sorted((DATA / "inspector").glob("*.json"))]


@reader("inspector", inspector_files, of_json, of_bytes)
def _inspector(data: bytes, _folder: Path) -> Any:
    from workbench.compilers.tensorrt.inspector import parse_inspection

    return parse_inspection(text(data), "fuzz", {"a"})


@reader("trtexec-layers", inspector_files, of_json, of_json, of_bytes)
def _layers(data: bytes, folder: Path) -> Any:
    from workbench.compilers.tensorrt import trtexec

    plan = trtexec.inspect(put(folder, "l.json", data))
    shown(plan)
    return plan


def _profile_of(layers: Sequence[str]) -> bytes:
    rows = [{"name": n, "timeMs": 2.5, "averageMs": 0.25, "medianMs": 0.2, "percentage": 50} for n in layers]
    return json.dumps([{"count": 10}, *rows]).encode()


def profiles() -> list[bytes]:
    names = [layer["Name"] for layer in json.loads((DATA / "inspector" / "trt10.json").read_text())["Layers"]]
    return [
        _profile_of(names),
        json.dumps([{"name": n, "averageMs": 1} for n in names]).encode(),
        _profile_of([*names, names[0]]),
    ]


@reader("trtexec-profile", profiles, of_json, of_json, of_bytes)
def _profile(data: bytes, folder: Path) -> Any:
    from workbench.compilers.tensorrt import trtexec

    file = put(folder, "p.json", data)
    trtexec.read_profile(file)
    plan = trtexec.inspect(DATA / "inspector" / "trt10.json", profile=file)
    shown(plan)
    return trtexec.profile_document(plan)


def times() -> list[bytes]:
    row = {"startH2dMs": 1.0, "endH2dMs": 1.1, "startComputeMs": 300.0, "endComputeMs": 301.0, "startD2hMs": 301.0, "endD2hMs": 301.5,
           "h2dMs": 0.1, "computeMs": 1.0, "d2hMs": 0.5, "latencyMs": 1.6}  # fmt: skip
    return [json.dumps([row, {**row, "latencyMs": 1.8}]).encode(), json.dumps([{"latencyMs": 1}]).encode()]


@reader("trtexec-times", times, of_json, of_json, of_bytes)
def _times(data: bytes, folder: Path) -> Any:
    from workbench.compilers.tensorrt import trtexec

    found = trtexec.read_times(put(folder, "t.json", data))
    return json.dumps(found.to_dict(), allow_nan=False), found.wall_ms


def metadata() -> list[bytes]:
    return [
        json.dumps([{"Name": "A100", "ComputeCapability": [8, 0]}]).encode(), json.dumps([{"Name": "A", "COMPUTE_CAPABILITY_MAJOR": 8, "COMPUTE_CAPABILITY_MINOR": 6}]).encode(),
        json.dumps({"performance_summary": {}, "device_information": {"Selected Device": "A", "Compute Capability": 8.6}}).encode(),
        json.dumps({"build_options": {}, "model_options": {}}).encode(),
    ]  # fmt: skip


@reader("trtexec-metadata", metadata, of_json, of_json, of_bytes)
def _metadata(data: bytes, folder: Path) -> Any:
    from workbench.compilers.tensorrt import trtexec

    plan = trtexec.inspect(DATA / "inspector" / "trt11.json", metadata=[put(folder, "m.json", data)])
    shown(plan)
    return plan


# --- precision --------------------------------------------------------------------------------------


def calibrations() -> list[bytes]:
    import numpy as np

    from workbench.precision.calibration import Calibration
    from workbench.precision.histogram import Histogram

    made = []
    for scale in (1.0, 1e-30):
        h = Histogram()
        h.observe(np.linspace(0, scale, 999, dtype=np.float32))
        # Most of a histogram's text is zeros: fewer of them leave more of it to change.
        made.append({"schema": "workbench.calibration/1", "model": "m", "data": {"source": "s", "digest": "d", "batches": 1, "samples": 8},
                     "tensors": {"a": h.to_dict(), "b": Histogram().to_dict()}})  # fmt: skip
    assert Calibration
    return [json.dumps(document).encode() for document in made]


@reader("calibration", calibrations, of_json, of_json, of_bytes)
def _calibration(data: bytes, folder: Path) -> Any:
    from workbench.precision.calibration import Calibration
    from workbench.precision.calibration_cache import TensorRTCache
    from workbench.precision.histogram import METHODS

    found = Calibration.load(put(folder, "c.json", data))
    for method in METHODS:
        assert all(0 <= end < 3.5e38 for end in found.ranges(method).values())
    found.to_frame()
    found.compare(found)
    return TensorRTCache.of(found).to_text().encode("utf-8", "surrogatepass")


@reader(
    "tensorrt-cache",
    lambda: [b"TRT-101300-EntropyCalibration2\nx: 3c010204\n/layer/h: 3dcccccd\nodd: name: 00000000\n"],
)
def _tensorrt_cache(data: bytes, folder: Path) -> Any:
    from workbench.precision.calibration_cache import TensorRTCache

    file = put(folder, "c.cache", data)
    TensorRTCache.is_one(file)
    found = TensorRTCache.load(file)
    assert all(0 <= end < 3.5e38 for end in found.ranges().values())
    found.to_frame()
    return found.save(folder / "again.cache")


def _inputs() -> list[Any]:
    from workbench.precision.inputs import Input

    return [Input("x", ("n", 3), "float32")]


def arrays() -> list[bytes]:
    import numpy as np

    made = []
    for array in (
        np.ones((16, 3), np.float32),
        np.arange(60, dtype=np.float32).reshape(20, 3),
        np.zeros((0, 3)),
        np.float64(3),
        np.asfortranarray(np.ones((8, 3), np.float16)),
    ):
        out = io.BytesIO()
        np.save(out, array)
        made.append(out.getvalue())
    return made


def archives() -> list[bytes]:
    import numpy as np

    made = []
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, x=np.arange(60, dtype=np.float32).reshape(20, 3), y=np.ones(3))
        made.append(out.getvalue())
    return made


def _gathered(file: Path, folder: Path) -> Any:
    from workbench.precision.data import gather

    return gather(file, _inputs(), folder / "out")


@reader("npy", arrays)
def _npy(data: bytes, folder: Path) -> Any:
    return _gathered(put(folder, "a.npy", data), folder)


@reader("npz", archives, of_zip)
def _npz(data: bytes, folder: Path) -> Any:
    return _gathered(put(folder, "a.npz", data), folder)


@reader("labels", arrays)
def _labels(data: bytes, folder: Path) -> Any:
    from workbench.precision.samples import read_labels

    return read_labels(put(folder, "a.npy", data))


def images() -> list[bytes]:
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    made = []
    for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"):
        out = io.BytesIO()
        picture.save(out, kind)
        made.append(out.getvalue())
    return made


@reader("image", images)
def _image(data: bytes, folder: Path) -> Any:
    from workbench.precision.data import gather
    from workbench.precision.inputs import Input

    put(folder, "a.png", data)
    return gather(folder, [Input("x", ("n", 3, 8, 8), "float32")], folder.parent / "images", min_samples=1)


@reader(
    "scheme",
    lambda: [
        b'{"to": "int8", "weights": "tensor", "keep": ["a*"]}',
        b'{"to": "fp16", "keep_ops": ["Softmax"]}',
        b'"int8"',
    ],
    of_json,
    of_bytes,
)
def _scheme(data: bytes, _folder: Path) -> Any:
    from workbench.core.documents import parse_json
    from workbench.core.errors import ConfigError
    from workbench.experiments.whatif import parse

    try:
        asked = parse_json(text(data), "fuzz")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return parse(asked) if isinstance(asked, str | dict) else None


@reader(
    "migrate",
    lambda: [
        b"--fp16 --int8 --calib=cache --onnx=m.onnx",
        b"config.set_flag(trt.BuilderFlag.FP16)",
        b"IInt8EntropyCalibrator2 --best --layerPrecisions=*:fp16",
    ],
)
def _migrate(data: bytes, _folder: Path) -> Any:
    from workbench.precision.migrate import migrate

    return migrate(text(data))


# --- what the workbench wrote -----------------------------------------------------------------------


@cache
def built() -> dict[str, bytes]:
    """The files of a build by the fake compiler, and the session as an archive."""
    import tempfile

    from tests.support.small_models import mlp, save
    from workbench import Session

    with tempfile.TemporaryDirectory() as place:
        session = Session("fuzz", store=Path(place) / "home")
        session.add(save(mlp(), Path(place) / "mlp.onnx"))
        engine = session.build("mlp", compiler="fake")
        found = {file.name: file.read_bytes() for file in engine.folder.iterdir() if file.is_file()}
        session.files.export(Path(place) / "s.zip")
        found["archive"] = (Path(place) / "s.zip").read_bytes()
        session.close()
    return found


@reader("plan", lambda: [built()["plan.json"]], of_json, of_json, of_bytes)
def _plan(data: bytes, folder: Path) -> Any:
    from workbench.compilers.tensorrt import trtexec

    plan = trtexec.inspect(put(folder, "plan.json", data))
    shown(plan)
    return plan


def _build_folder(folder: Path, name: str, data: bytes) -> Path:
    for file, content in built().items():
        # A seal would refuse whatever was changed: an archive's files are read before they have one.
        if file != "archive" and "seal" not in file:
            put(folder, file, data if file == name else content)
    return folder


@reader("build-note", lambda: [built()["build.json"]], of_json, of_json, of_bytes)
def _build_note(data: bytes, folder: Path) -> Any:
    from workbench.engine import load_engine

    engine = load_engine(_build_folder(folder, "build.json", data))
    return engine.id, engine.plan, engine.config, str(engine)


@reader("build-plan", lambda: [built()["plan.json"]], of_json, of_json, of_bytes)
def _build_plan(data: bytes, folder: Path) -> Any:
    from workbench.engine import load_engine

    return load_engine(_build_folder(folder, "plan.json", data)).plan


@reader("build-record", lambda: [built()["record.json"]], of_json, of_json, of_bytes)
def _build_record(data: bytes, folder: Path) -> Any:
    from workbench.engine import load_engine

    engine = load_engine(_build_folder(folder, "record.json", data))
    return engine.plan, engine.tactics


@reader("archive", lambda: [built()["archive"]], of_zip, weight=0.01)
def _archive(data: bytes, folder: Path) -> Any:
    from workbench import Session

    session = Session.from_archive(put(folder, "s.zip", data), store=folder / "home")
    try:
        return [engine.plan for engine in session.engines]
    finally:
        session.close()


@reader(
    "config",
    lambda: [
        b'{"targets": ["sm89"], "precision": "fp16", "profiles": [{"inputs": {"x": {"min": [1, 8], "opt": [2, 8], "max": [4, 8]}}}], "workspace": 1000, "flags": ["TF32"]}'
    ],
    of_json,
    of_bytes,
)
def _config(data: bytes, _folder: Path) -> Any:
    from workbench.compilers.config import BuildConfig
    from workbench.core.documents import parse_json
    from workbench.core.errors import ConfigError

    try:
        document = parse_json(text(data), "fuzz")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not isinstance(document, dict):
        return None
    config = BuildConfig.from_dict(document)
    return config.digest, hash(config), BuildConfig.from_dict(config.to_dict())


@reader("shapes", lambda: [b"x=1x3x224x224", b"x=1x3:8x3:32x3\ny=4", b"a=b=1"])
def _shapes(data: bytes, _folder: Path) -> Any:
    from workbench.model.shape_profile import ShapeProfile, sizes_of

    profile = ShapeProfile.parse(text(data).split("\n"))
    return sizes_of(profile), hash(profile), str(profile)


@reader(
    "error", lambda: [b'{"kind": "BuildError", "message": "m", "hint": "h", "details": {"a": 1}, "code": "c"}'], of_json
)
def _error(data: bytes, _folder: Path) -> Any:
    from workbench.core.errors import WorkbenchError

    try:
        document = json.loads(text(data))
    except (ValueError, RecursionError):
        return None
    return str(WorkbenchError.from_dict(document)) if isinstance(document, dict) else None


@reader(
    "bench-results",
    lambda: [
        b'{"schema": "workbench.bench/1", "rows": [{"model": "digits", "batch": 1, "precision": "fp32", "ways": {"eager": {"median_ms": 1.0, "error": {"ok": true, "relative_l2": 0.0}}}, "missing": {}}]}'
    ],
    of_json,
    of_bytes,
)
def _bench(data: bytes, folder: Path) -> Any:
    from workbench.experiments.bench import Bench, table

    work = Bench(None, ["digits"], out=put(folder, "b.json", data))  # type: ignore[arg-type]
    return table(work.document)


@reader(
    "environment", lambda: [b'{"packages": ["a==1"], "created": 1.0, "pins": ["a==1"]}'], of_json, of_bytes, weight=0.1
)
def _environment(data: bytes, folder: Path) -> Any:
    from workbench.core.environments import MARKER, look
    from workbench.core.store import Store

    place = folder / "home" / "environments" / "modelopt"
    (place / MARKER).parent.mkdir(parents=True, exist_ok=True)
    put((place / MARKER).parent, Path(MARKER).name, data)
    return look("modelopt", Store(folder / "home")).to_dict()


# --- the command line -------------------------------------------------------------------------------

LINES = [
    ["migrate", "--", "--fp16 --int8"], ["inspect", "LAYERS"], ["inspect", "LAYERS", "--profile", "PROFILE", "-f", "csv"], ["inspect", "LAYERS", "--estimate", "a100", "-f", "json"],
    ["calibration", "CACHE"], ["calibration", "CACHE", "CACHE", "--method", "minmax"], ["samples"], ["trtexec", "MODEL", "-s", "x=4x8", "--for", "10"], ["fusions", "MODEL", "--target", "sm42"],
    ["audit", "abcd1234"], ["quantize", "MODEL", "-o", "OUT", "-c", "random:0"], ["cast", "MODEL", "--to", "fp16", "--library", "onnxruntime", "-o", "OUT"], ["bench", "nothing", "--batch", "1,2"],
]  # fmt: skip


@reader("command-line", lambda: ["\x01".join(line).encode() for line in LINES], weight=0.1)
def _command_line(data: bytes, folder: Path) -> Any:
    from tests.support.commands import run_in_process
    from tests.support.small_models import mlp, save

    names = {
        "LAYERS": put(folder, "l.json", inspector_files()[0]), "PROFILE": put(folder, "p.json", profiles()[0]), "CACHE": put(folder, "c.json", calibrations()[0]),
        "MODEL": save(mlp("batch"), folder / "m.onnx"), "OUT": folder / "out.onnx",
    }  # fmt: skip
    os.environ["WORKBENCH_HOME"] = str(folder / "home")
    arguments = [part.replace("\x00", "") for part in text(data).split("\x01")]
    if any(a in {"lab", "demo", "env"} for a in arguments):
        return None  # starts servers, or installs
    arguments = [str(names.get(a, a)) for a in arguments]
    return run_in_process(arguments)
