"""Calibration: the data, what is looked at before they are used, and the ranges that they give.

Data come in many forms (see `batches`) and leave as a folder of checked batches with a digest. A worker runs
the FP32 model on them with ONNX Runtime and counts each activation's magnitudes into a histogram. The
histograms are the cache: every method (entropy, percentile, minmax) reads its range off the same counts, so
trying another one runs no model. A cache knows which model and data it was made from, and is refused for
another model.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core import limits
from workbench.core.documents import DocumentError, expanded, kind_of, parse_json, read_text
from workbench.core.errors import CalibrationError, WorkbenchError, first_lines
from workbench.core.store import written
from workbench.hardware.machine import made_by
from workbench.precision.arrays import read_arrays, read_image
from workbench.precision.ort_errors import raised

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from workbench.core.worker import Reporter
    from workbench.model.graph import Graph
    from workbench.model.shape_profile import Shape

SCHEMA = "workbench.calibration/1"
METHODS = ("entropy", "percentile", "minmax")
BINS = 2048
"""Bins of a histogram of magnitudes; TensorRT's own calibrators use as many."""

LEVELS = 128
"""Magnitudes that INT8 tells apart; what the entropy method squeezes a histogram into."""

LARGEST = 3.4028234663852886e38
"""The largest number of FP32."""

CUT = 0.01
"""The largest share of a tensor's values (zeros aside) that the entropy method may cut off."""

MIN_SAMPLES = 8
"""Fewer samples than this are refused: their extremes say little about the next one."""

_CACHES = (
    "Caches are written by `workbench quantize --save-calibration FILE` (JSON), and by TensorRT 10 (their first line "
    "begins with TRT-; in Python TensorRTCache.load)."
)
_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
_CHUNK = 8  # samples per batch, where the model takes any number and the data are one array


# --- data -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Input:
    """What the model asks of one input."""

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str

    @property
    def fixed_batch(self) -> int | None:
        """The size of the first dimension, where the model fixes it."""
        return self.shape[0] if self.shape and isinstance(self.shape[0], int) and self.shape[0] > 0 else None


def inputs_of(graph: Graph, shapes: Mapping[str, Shape] | None = None) -> list[Input]:
    """The inputs of a model, with their dynamic dimensions taken from `shapes` where it gives them.

    Raises:
        ConfigError: `shapes` does not fit the model.
    """
    graph.check_shapes(shapes or {})
    return [
        Input(name, tuple((shapes or {}).get(name) or t.shape or ()), t.dtype)
        for name in graph.inputs
        for t in [graph.tensor(name)]
    ]


@dataclass(frozen=True)
class Batches:
    """Checked batches on disk.

    Attributes:
        folder: One ``.npz`` file a batch, in order.
        digest: SHA-256 of their contents.
        count: How many batches.
        samples: How many samples: the sum of the first dimensions.
        source: What they were made from, in words.
        warnings: What the user should know.
        places: For each sample its place in the data, counted from 0: some may have been left out.
        cut: Whether a limit ended the data early, so that there may be more of them.
        total: How many samples were looked at, those left out included.
    """

    folder: Path
    digest: str
    count: int
    samples: int
    source: str
    warnings: tuple[str, ...] = ()
    places: tuple[int, ...] = field(default=(), repr=False)
    cut: bool = False
    total: int = 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return read_batches(self.folder)

    def labels(self, given: Sequence[int]) -> list[int]:
        """The labels of these samples, from those of all the data (or of these samples alone).

        Raises:
            CalibrationError: there are not as many as samples.
        """
        if len(given) == self.total or (self.cut and len(given) > self.total):
            return [int(given[place]) for place in self.places]
        if len(given) == self.samples:
            return [int(label) for label in given]
        raise CalibrationError(
            f"There are {len(given)} labels for {self.total} samples.", hint="Give one for each sample, in their order."
        )


def read_batches(folder: Path) -> Iterator[dict[str, np.ndarray]]:
    """The batches that `gather` wrote, in order."""
    import numpy as np

    for file in sorted(Path(folder).glob("*.npz")):
        with np.load(file) as archive:
            yield {name.removeprefix("input:"): archive[name] for name in archive.files}


def gather(
    data: Any,
    inputs: Sequence[Input],
    folder: Path,
    *,
    limit: int | None = None,
    min_samples: int = MIN_SAMPLES,
    seed: int = 0,
    varied: bool = True,
) -> Batches:
    """Read, check and store calibration data.

    Args:
        data: See `batches`; or `Batches`, for several calls with the same data: those are given back as they are, if
            there are enough samples, and `limit` and `seed` say nothing then.
        inputs: What the model asks; from `inputs_of`.
        folder: Where the batches are written; created.
        limit: At most this many batches.
        min_samples: Fewer samples are refused.
        seed: For ``random:N``.
        varied: Whether they are to say something about ranges: constant, infinite and equal batches are refused then.

    Raises:
        CalibrationError: there are none or too few, or one is not a number, constant, or of the wrong shape or type.
    """
    import numpy as np

    if limit is not None and limit < 1:
        raise CalibrationError(f"At most {limit} batches leaves none.", hint="Give 1 or more, or no limit.")
    if not inputs:
        raise CalibrationError("The model has no inputs, so there is nothing to calibrate.")
    if isinstance(data, Batches):
        _enough(data.samples, min_samples, data.source)
        return data
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    count = position = 0
    places: list[int] = []
    constant: dict[str, Any] = {}
    first: dict[str, str] = {}
    repeated = True
    source, made = batches(data, inputs, seed=seed)
    for number, raw in enumerate(_told(source, made)):
        fitted, length = _fit(raw, inputs, number)
        start = position
        position += length
        for batch in fitted:
            if limit is not None and count >= limit:
                break
            for item in inputs:
                array = _checked(batch[item.name], item, number, infinite=not varied)
                batch[item.name] = array
                text = hashlib.sha256(str((array.dtype.str, array.shape)).encode() + array.tobytes()).hexdigest()
                digest.update(f"{item.name}:{text}".encode())
                repeated &= first.setdefault(item.name, text) == text
                if item.name not in constant or constant[item.name] is not None:
                    value = array.flat[0] if array.size and (array == array.flat[0]).all() else None
                    same = item.name not in constant or constant[item.name] == value
                    constant[item.name] = value if same else None
            np.savez(folder / f"{count:06d}.npz", **{f"input:{k}": v for k, v in batch.items()})
            count += 1
            first_array = next(iter(batch.values()))
            size = int(first_array.shape[0]) if first_array.ndim else 1
            places += range(start, start + size)
            start += size
        if limit is not None and count >= limit:
            break
    samples = len(places)
    cut = limit is not None and count >= limit
    if count == 0:
        raise CalibrationError(f"{source} holds no batch.", hint="Give a few dozen samples of what the model will see.")
    flat = [
        item.name for item in inputs if item.dtype.startswith(("float", "bfloat")) and constant[item.name] is not None
    ]
    if flat and varied:
        raise CalibrationError(
            f"Input {flat[0]} is {float(constant[flat[0]]):g} in every element of every batch: {source} is constant.",
            hint="A constant says nothing about the range of a tensor; give real samples.",
        )
    _enough(samples, min_samples, source)
    if repeated and varied and count > 1:
        raise CalibrationError(
            f"All {count} batches of {source} are the same.",
            hint="A generator that yields one array again and again? Give samples that differ.",
        )
    warnings = []
    if source.startswith("random:"):
        warnings.append(
            "Calibrated on random numbers: the ranges say nothing about your data. Use this to look at fusions and "
            "speed, never for accuracy."
        )
    if not cut and position > samples:
        left = position - samples
        warnings.append(
            f"{left} of {position} samples of {source} {'was' if left == 1 else 'were'} left out: they fill no batch of "
            f"{inputs[0].fixed_batch}, which the model fixes."
        )
    return Batches(folder, digest.hexdigest(), count, samples, source, tuple(warnings), tuple(places), cut, position)


def _enough(samples: int, least: int, source: str) -> None:
    if samples < least:
        raise CalibrationError(
            f"{source} holds {samples} sample{'s' if samples != 1 else ''}; at least {least} are needed.",
            hint="Give more of them (a few hundred are usual), or lower min_samples if you know better.",
        )


def batches(data: Any, inputs: Sequence[Input], *, seed: int = 0) -> tuple[str, Iterable[Any]]:
    """What `data` is in words, and its raw batches.

    Args:
        data: A folder of ``.npy``, ``.npz`` or image files; an ``.npy`` or ``.npz`` file with the samples along
            the first axis; ``module:factory``, a function without arguments that returns any of these;
            ``random:N`` for N batches of random numbers; an array or a dict of arrays; or whatever can be
            iterated: a generator or a DataLoader. A batch is an array, a sequence of arrays in the order of
            the inputs (what follows them, such as labels, is dropped), or a dict by input name.
        inputs: What the model asks.
        seed: For ``random:N``.

    Raises:
        CalibrationError: there is no such file or function, or it can't be read.
    """
    import numpy as np

    if isinstance(data, Path) or (isinstance(data, str) and not data.startswith("random:")):
        text = str(data)
        path = expanded(text)
        if kind_of(path) == "folder":
            return f"Folder {path}", _folder(path, inputs)
        if path.suffix in {".npy", ".npz"} or kind_of(path) == "file":
            return f"File {path}", _file(path, inputs)
        module, colon, name = text.partition(":")
        if colon and module and name.isidentifier():
            made = _factory(module, name)
            if isinstance(made, str) and made == text:
                raise CalibrationError(f"{text} returns its own name.")
            return text, batches(made, inputs, seed=seed)[1]
        raise CalibrationError(
            f"There are no calibration data {text!r}: no folder, no .npy or .npz file, no module:factory.",
            hint="random:32 calibrates on random numbers, to look at fusions only.",
        )
    if isinstance(data, str):
        number = data.partition(":")[2]
        if not re.fullmatch("[0-9]{1,12}", number) or int(number) == 0:
            raise CalibrationError(f"{data!r} names no number of batches.", hint="Write random:32.")
        return data, random_batches(inputs, int(number), seed)
    if isinstance(data, Mapping):
        return "The given arrays", _split({str(k): np.asarray(v) for k, v in data.items()}, inputs)
    if isinstance(data, np.ndarray):
        return "The given array", _split({_single(inputs, "an array"): data}, inputs)
    if callable(data) and not hasattr(data, "__iter__"):
        try:
            made = data()
        except Exception as error:
            raise _failed(f"The given {getattr(data, '__name__', type(data).__name__)}", error) from error
        return batches(made, inputs, seed=seed)
    try:
        return f"The given {type(data).__name__}", iter(data)
    except TypeError:
        raise CalibrationError(
            f"An object of type {type(data).__name__} holds no calibration data.",
            hint="Pass a folder, an .npz or .npy file, module:factory, random:N, arrays, or something to iterate.",
        ) from None


def random_batches(inputs: Sequence[Input], count: int, seed: int = 0) -> Iterator[dict[str, np.ndarray]]:
    """Standard normal numbers for floating-point inputs, small whole numbers for integers, true for booleans.

    Raises:
        CalibrationError: a dimension other than the first is dynamic.
        LimitError: they would take more than ``SAMPLE_BYTES``.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    for item in inputs:
        if any(not isinstance(d, int) or d < 1 for d in item.shape[1:]):
            text = "x".join(str(d) if isinstance(d, int) else "?" for d in item.shape)
            raise CalibrationError(
                f"Input {item.name} [{', '.join(map(str, item.shape))}] has dynamic axes, so there is no size for random data.",
                hint=f"Give one: --shape {item.name}={text.replace('?', '64')}.",
            )
    elements = sum(math.prod(d for d in item.shape if isinstance(d, int) and d > 0) for item in inputs)
    limits.check("SAMPLE_BYTES", 4 * elements * count, f"random:{count}")
    for _ in range(count):
        batch = {}
        for item in inputs:
            shape = tuple(d if isinstance(d, int) and d > 0 else 1 for d in item.shape)
            if item.dtype.startswith(("float", "bfloat")):
                batch[item.name] = rng.standard_normal(shape).astype(np.float32)
            elif item.dtype == "bool":
                batch[item.name] = np.ones(shape, dtype=bool)
            else:
                # 0 and 1 are in range of every vocabulary, mask and type id.
                batch[item.name] = rng.integers(0, 2, shape).astype(item.dtype)
        yield batch


def _factory(module: str, name: str) -> Any:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise CalibrationError(
                f"{module}:{name} can't be loaded: {error}.",
                hint="Name a module that Python finds from this folder, and a function in it that returns batches.",
            ) from None
        return found() if callable(found) else found
    except CalibrationError:
        raise
    except Exception as error:
        raise _failed(f"{module}:{name}", error) from error
    finally:
        if added:
            sys.path.remove(here)


def _told(source: str, made: Iterable[Any]) -> Iterator[Any]:
    """The raw batches; what the user's own code raises on the way is told with its place."""
    try:
        yield from made
    except WorkbenchError:
        raise
    except Exception as error:
        raise _failed(source, error) from error


def _failed(source: str, error: Exception) -> CalibrationError:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return CalibrationError(
        f"{source} failed at {frame.filename}:{frame.lineno}: {type(error).__name__}: {first_lines(error)}.",
        hint="The error is in the code that gives the data: run it by itself.",
    )


def _single(inputs: Sequence[Input], what: str) -> str:
    if len(inputs) != 1:
        raise CalibrationError(
            f"The model has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}) and {what} names none.",
            hint="Give a dict or an .npz file with an array for each.",
        )
    return inputs[0].name


def _file(path: Path, inputs: Sequence[Input]) -> Iterator[dict[str, np.ndarray]]:
    return _split(_load(path, inputs), inputs)


def _load(path: Path, inputs: Sequence[Input]) -> dict[str, np.ndarray]:
    arrays = read_arrays(path)
    if not isinstance(arrays, dict):
        return {_single(inputs, path.name): arrays}
    if len(inputs) == 1 and len(arrays) == 1:
        return {inputs[0].name: next(iter(arrays.values()))}
    return arrays


def _split(arrays: Mapping[str, np.ndarray], inputs: Sequence[Input]) -> Iterator[dict[str, np.ndarray]]:
    """Arrays with all samples along the first axis, in batches; an extra axis in front numbers whole batches."""
    missing = [item.name for item in inputs if item.name not in arrays]
    if missing:
        raise CalibrationError(
            f"There are no data for input {missing[0]}; there are {', '.join(arrays) or 'none'}.",
            hint=f"Name the arrays as the model's inputs: {', '.join(i.name for i in inputs)}.",
        )
    if single := [i.name for i in inputs if i.shape and not arrays[i.name].ndim]:
        raise CalibrationError(
            f"The data for input {single[0]} are a single number.", hint="Give the samples along the first axis."
        )
    if all(arrays[i.name].ndim == len(i.shape) + 1 for i in inputs):
        _same_length("batches", {i.name: len(arrays[i.name]) for i in inputs})
        for k in range(len(arrays[inputs[0].name])):
            yield {i.name: arrays[i.name][k] for i in inputs}
        return
    lengths = {i.name: arrays[i.name].shape[0] if arrays[i.name].ndim else 1 for i in inputs}
    _same_length("samples", lengths)
    size = inputs[0].fixed_batch or _CHUNK
    total = lengths[inputs[0].name]
    whole = total - total % size if inputs[0].fixed_batch and total >= size else total
    for start in range(0, whole, size):
        # What fills no batch of a fixed size goes with the last one: `_fit` leaves it out, and it is told.
        end = total if start + size == whole else start + size
        yield {i.name: arrays[i.name][start:end] for i in inputs}


def _same_length(what: str, lengths: Mapping[str, int]) -> None:
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise CalibrationError(f"The inputs have different numbers of {what}: {told}.")


def _folder(path: Path, inputs: Sequence[Input]) -> Iterator[dict[str, np.ndarray]]:
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in {".npy", ".npz"} and f.is_file())
    if files:
        for file in files:
            arrays = _load(file, inputs)
            if all(i.name in arrays and arrays[i.name].ndim == len(i.shape) - 1 for i in inputs):
                yield {i.name: arrays[i.name][None] for i in inputs}  # one sample, without the batch axis
            else:
                yield from _split(arrays, inputs)
        return
    images = sorted(f for f in path.rglob("*") if f.suffix.lower() in _IMAGES and f.is_file())
    if not images:
        raise CalibrationError(
            f"Folder {path} holds neither .npy, .npz nor image files.",
            hint="Save each batch with numpy.savez(file, input_name=array).",
        )
    yield from _pictures(images, inputs)


def _pictures(files: Sequence[Path], inputs: Sequence[Input]) -> Iterator[dict[str, np.ndarray]]:
    """Images as RGB in 0..1, resized to the input; normalization beyond that is the user's."""
    import numpy as np

    name = _single(inputs, "a folder of images")
    shape = inputs[0].shape
    if len(shape) != 4 or shape[1] not in (1, 3) or not all(isinstance(d, int) for d in shape[2:]):
        raise CalibrationError(
            f"Images fit an input of shape [batch, 3, height, width]; {name} is {list(shape)}.",
            hint="Prepare the data yourself and save them with numpy.save, or give --shape.",
        )
    for file in files:
        sized = read_image(file, "RGB" if shape[1] == 3 else "L", (int(shape[3] or 1), int(shape[2] or 1)))
        array = np.asarray(sized, dtype=np.float32) / 255
        array = array.transpose(2, 0, 1) if array.ndim == 3 else array[None]
        yield {name: np.repeat(array[None], inputs[0].fixed_batch or 1, axis=0)}


def _fit(raw: Any, inputs: Sequence[Input], number: int) -> tuple[list[dict[str, Any]], int]:
    """One raw batch as arrays by input name, cut into the model's own batch size where that is fixed; its samples."""
    import numpy as np

    if isinstance(raw, Mapping):
        named = {str(k): _array(v) for k, v in raw.items()}
        missing = [item.name for item in inputs if item.name not in named]
        if missing:
            raise CalibrationError(
                f"Batch {number} has no input {missing[0]}; it has {', '.join(named) or 'none'}.",
                hint=f"The model's inputs are {', '.join(i.name for i in inputs)}.",
            )
        named = {item.name: named[item.name] for item in inputs}
    elif isinstance(raw, list | tuple):
        if len(raw) < len(inputs):
            raise CalibrationError(f"Batch {number} holds {len(raw)} arrays; the model has {len(inputs)} inputs.")
        named = {item.name: _array(value) for item, value in zip(inputs, raw, strict=False)}
    else:
        named = {_single(inputs, f"batch {number}"): _array(raw)}
    for item in inputs:
        if item.shape and named[item.name].ndim == len(item.shape) - 1:
            named[item.name] = named[item.name][None]  # a sample without its batch axis
    size = inputs[0].fixed_batch
    length = named[inputs[0].name].shape[0] if named[inputs[0].name].ndim else 0
    if (
        size is None
        or length in (size, 0)
        or any(i.fixed_batch not in (size, None) or named[i.name].shape[:1] != (length,) for i in inputs)
    ):
        return [named], length if named[inputs[0].name].ndim else 1
    if length % size and length < size:
        array = named[inputs[0].name]
        raise CalibrationError(
            f"Batch {number} of {inputs[0].name} has {len(array)} samples; the model takes exactly {size}.",
            hint="Give batches of that size, or export the model with a dynamic batch.",
        )
    starts = range(0, length - length % size, size)
    return [{k: np.asarray(v[s : s + size]) for k, v in named.items()} for s in starts], length


def _array(value: Any) -> np.ndarray:
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def _checked(array: np.ndarray, item: Input, number: int, *, infinite: bool = False) -> np.ndarray:
    """The array in the input's own type, or the reason why it can't be; `infinite` numbers may be meant (masks)."""
    import numpy as np

    where = f"Batch {number} of input {item.name}"
    want = item.dtype
    if len(array.shape) != len(item.shape) or any(
        isinstance(d, int) and d > 0 and d != have for d, have in zip(item.shape, array.shape, strict=True)
    ):
        raise CalibrationError(
            f"{where} has shape {list(array.shape)}; the model declares {list(item.shape)}.",
            hint="Prepare the data exactly as for inference.",
        )
    if array.size == 0:
        raise CalibrationError(f"{where} is empty.")
    floating = want.startswith(("float", "bfloat"))
    if (
        array.dtype.kind not in "fiub"
        or (floating and array.dtype.kind != "f")
        or (not floating and array.dtype.kind == "f")
    ):
        raise CalibrationError(
            f"{where} is {array.dtype}; the model takes {want}.",
            hint="Images of whole numbers must be scaled as in training." if floating else "Convert it first.",
        )
    if floating and not (~np.isnan(array) if infinite else np.isfinite(array)).all():
        raise CalibrationError(
            f"{where} holds {int(np.isnan(array).sum())} NaN and {int(np.isinf(array).sum())} infinite values.",
            hint="Look at how the data were prepared: a division by zero, a missing value?",
        )
    kind = {"bfloat16": "float32"}.get(want, want)
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.ascontiguousarray(array.astype(kind, copy=False))
    # A cast wraps integers around and makes large numbers infinite, without a word.
    if not ((np.isfinite(made) | np.isinf(array)).all() if floating else (made == array).all()):
        raise CalibrationError(
            f"{where} holds values from {array.min():.4g} to {array.max():.4g}, which {want} does not.",
            hint="Prepare the data exactly as for inference.",
        )
    return made


# --- ranges -----------------------------------------------------------------------------------------


@dataclass
class Histogram:
    """How often each magnitude of a tensor occurred.

    Always `BINS` bins from 0 to `top`; a larger value doubles `top` and merges bins in pairs, so that the
    counts stay exact whatever the order of the batches.
    """

    counts: Any = None
    top: float = 0.0
    low: float = 0.0
    high: float = 0.0
    elements: int = 0
    bad: int = 0
    """How many values were NaN or infinite; they are in no bin."""

    def observe(self, values: np.ndarray) -> None:
        """Count the values of one batch."""
        import numpy as np

        flat = values.reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        if not np.isfinite(low) or not np.isfinite(high):
            fine = np.isfinite(flat)
            self.bad += int(flat.size - fine.sum())
            flat = flat[fine].astype(np.float32)
            if flat.size == 0:
                return
            low, high = float(flat.min()), float(flat.max())
        if self.elements == 0:
            self.low, self.high = low, high
            self.counts = np.zeros(BINS, dtype=np.int64)
        else:
            self.low, self.high = min(self.low, low), max(self.high, high)
        self.elements += int(flat.size)
        amax = max(abs(low), abs(high))
        if self.top == 0.0:
            if amax == 0.0:
                self.counts[0] += flat.size
                return
            self.top = amax * (1 + 1e-6)
        while amax >= self.top:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.top *= 2
        # Divided first: BINS / top itself is beyond FP32 where the values are below 6e-36.
        index = (np.abs(flat.astype(np.float32, copy=False)) / np.float32(self.top) * BINS).astype(np.int32)
        np.minimum(index, BINS - 1, out=index)
        self.counts += np.bincount(index, minlength=BINS)

    @property
    def amax(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    def beyond(self, end: float) -> float:
        """The share of values (0..1) whose magnitude lies beyond `end`, to the width of a bin."""
        total = 0 if self.counts is None else int(self.counts.sum())
        if not total or not self.top:
            return 0.0
        first = min(BINS, round(end * BINS / self.top))
        return float(self.counts[first:].sum()) / total if end < self.amax else 0.0

    def range(self, method: str, percentile: float = 99.99) -> float:
        """The magnitude at which the range ends by `method`; never beyond the largest that occurred."""
        import numpy as np

        if method not in METHODS:
            raise CalibrationError(
                f"There is no calibration method {method!r}.", hint=f"Methods: {', '.join(METHODS)}."
            )
        if method == "minmax" or self.amax == 0.0:
            return self.amax
        width = self.top / BINS
        if method == "percentile":
            sums = np.cumsum(self.counts)
            place = int(np.searchsorted(sums, sums[-1] * percentile / 100))
            return min((place + 1) * width, self.amax)
        return min(_entropy(self.counts) * width, self.amax)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        counts = [] if self.counts is None else [int(n) for n in self.counts]
        return {"counts": counts, "top": self.top, "low": self.low, "high": self.high,
                "elements": self.elements, "bad": self.bad}  # fmt: skip

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Histogram:
        """The inverse of `to_dict`.

        Raises:
            DocumentError: a field is absent, of another type, or says what can't be: counts that are not `BINS` numbers,
                values beyond the last bin, a count of elements that is not the sum.
        """
        import numpy as np

        if not isinstance(data, Mapping):
            raise DocumentError("it is no object")
        if absent := {"counts", "top", "low", "high", "elements", "bad"} - set(data):
            raise DocumentError(f"it has no {min(absent)}")
        # The bins may end at up to twice the largest value.
        top, low, high = _real(data["top"], "top", 4 * LARGEST), _real(data["low"], "low"), _real(data["high"], "high")
        elements, bad = (_count(data[key], key) for key in ("elements", "bad"))
        counts = data["counts"]
        if not isinstance(counts, list) or len(counts) not in (0, BINS):
            raise DocumentError(f"its counts are not {BINS} numbers")
        numbers = [_count(number, "counts") for number in counts]
        if sum(numbers) != elements:
            raise DocumentError(f"its counts add up to {sum(numbers)}, and its elements are {elements}")
        amax = max(abs(low), abs(high))
        if low > high or (elements == 0 and amax > 0):
            raise DocumentError(f"its values from {low:g} to {high:g} can't be")
        # Every value lies within the bins; where all are zero there are none to lay out.
        if top < 0 or amax > top or (top == 0 and any(numbers[1:])):
            raise DocumentError(f"its bins end at {top:g}, and its values lie between {low:g} and {high:g}")
        # The largest value lies in the last bin that holds any, to what rounding moves it.
        last = max((place for place, number in enumerate(numbers) if number), default=0)
        if top and abs(amax / top * BINS - last - 0.5) > 1.5:
            raise DocumentError(
                f"its largest value is {amax:g}, and its last count is at {(last + 0.5) * top / BINS:g}"
            )
        return Histogram(np.array(numbers, dtype=np.int64) if numbers else None, top, low, high, elements, bad)


def _real(value: Any, key: str, largest: float = LARGEST) -> float:
    """A number that FP32 holds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -largest <= value <= largest:
        raise DocumentError(f"its {key} is {value!r:.60}, which is no number of FP32")
    return float(value)


def _count(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise DocumentError(f"its {key} hold {value!r:.60}, which is no count")
    return value


def _entropy(counts: np.ndarray) -> int:
    """How many bins to keep so that `LEVELS` levels lose the least information (least KL divergence).

    The search of TensorRT's entropy calibrator: for each candidate, what lies beyond goes into the last bin;
    the kept bins are squeezed into `LEVELS` groups and spread again over those that were not empty. The
    first bin takes its neighbour's count, since exact zeros (after a ReLU) cost nothing at any scale.

    One guard is added: ranges that cut off more than `CUT` of the values are not considered. On data with few
    distinct values (an 8-bit image, a one-hot code) the divergence is smallest where everything is cut off.

    ONNX Runtime's own calibrator keeps 128 bins by default, which leaves it exactly one candidate, the whole
    range: its "entropy" then equals minmax.
    """
    import numpy as np

    hist = counts.astype(np.float64)
    hist[0] = hist[1]
    total = hist.sum()
    last = int(np.max(np.nonzero(counts)[0])) + 1
    if total == 0 or last <= LEVELS:
        return last
    best, keep = np.inf, last
    beyond = np.concatenate([np.cumsum(hist[::-1])[::-1], [0.0]])  # beyond[i]: all from bin i on
    for end in [*range(LEVELS, last, 8), last]:
        if beyond[end] > CUT * total:
            continue
        kept = hist[:end]
        p = kept.copy()
        p[-1] += beyond[end]
        some = p > 0
        edges = (np.arange(LEVELS) * end) // LEVELS
        mass = np.add.reduceat(kept, edges)
        filled = np.add.reduceat(some.astype(np.float64), edges)
        mean = np.divide(mass, filled, out=np.zeros(LEVELS), where=filled > 0)
        q = np.repeat(mean, np.diff(np.append(edges, end)))[some]
        # A divergence needs both positive: a bin that outliers alone filled gets next to nothing.
        q = np.maximum(q, 1e-4)
        p, q = p[some] / p.sum(), q / q.sum()
        divergence = float((p * np.log(p / q)).sum())
        if divergence < best:
            best, keep = divergence, end
    return keep


@dataclass(frozen=True)
class Calibration:
    """Histograms of a model's activations on some data: the calibration cache.

    Attributes:
        model: Fingerprint of the FP32 model.
        data: ``digest``, ``source``, ``batches``, ``samples``.
        tensors: A histogram for each activation, by name.
    """

    model: str
    data: Mapping[str, Any]
    tensors: Mapping[str, Histogram] = field(repr=False)

    @staticmethod
    def key(model: str, digest: str, tensors: Iterable[str]) -> str:
        """The name under which a calibration is kept: another version of ONNX Runtime calibrates anew."""
        identity = json.dumps([SCHEMA, made_by("onnxruntime"), model, digest, sorted(tensors)])
        return hashlib.sha256(identity.encode()).hexdigest()

    def check(self, model: str, name: str = "this model") -> None:
        """Refuse a cache that was made from another model.

        Raises:
            CalibrationError: it was.
        """
        if self.model != model:
            raise CalibrationError(
                f"The calibration cache was made from another model ({self.model[:12]}, not {model[:12]}) than {name}.",
                hint="Calibrate again: ranges of another graph, or of other weights, do not fit.",
            )

    def ranges(self, method: str = "entropy", percentile: float = 99.99) -> dict[str, float]:
        """The magnitude at which each tensor's range ends."""
        return {name: h.range(method, percentile) for name, h in self.tensors.items()}

    def to_frame(self, percentile: float = 99.99) -> pd.DataFrame:
        """One row a tensor: its extremes and what each method would choose."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"tensor": name, "low": h.low, "high": h.high, "elements": h.elements, "not_finite": h.bad,
                 **{method: h.range(method, percentile) for method in METHODS}}
                for name, h in self.tensors.items()
            ]
        )  # fmt: skip

    def compare(self, other: Calibration, method: str = "entropy", percentile: float = 99.99) -> pd.DataFrame:
        """The ranges of two calibrations side by side, the largest change first.

        `ratio` is the other's range over this one's; a tensor that only one has is left empty.
        """
        return side_by_side(self.ranges(method, percentile), other.ranges(method, percentile))

    def save(self, path: str | Path) -> Path:
        """Write it as JSON."""
        data = {"schema": SCHEMA, "model": self.model, "data": dict(self.data),
                "tensors": {name: h.to_dict() for name, h in self.tensors.items()}}  # fmt: skip
        with written(path, parents=True) as draft:
            draft.write_text(json.dumps(data, separators=(",", ":")))
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            CalibrationError: it is no calibration cache, of a later version, or holds ranges that can't be.
            LimitError: it is too large or nested too deeply.
        """
        try:
            text = read_text(path)
        except OSError as error:
            raise CalibrationError(
                f"{path} can't be read: {error.strerror or error}.", hint=_CACHES, code="file-unreadable"
            ) from None
        try:
            data = parse_json(text, str(path), finite=False)  # the tensor is named below
            if not isinstance(data, dict) or data.get("schema") != SCHEMA:
                raise DocumentError(f"its schema is not {SCHEMA}")
            about = _about(data)
            if not isinstance(data.get("tensors"), dict):
                raise DocumentError("it has no tensors")
        except ValueError as error:
            raise CalibrationError(
                f"{path} is no calibration cache, or not a whole one: {error}.", hint=_CACHES, code="calibration-cache"
            ) from None
        tensors = {}
        for name, histogram in data["tensors"].items():
            try:
                tensors[name] = Histogram.from_dict(histogram)
            except ValueError as error:
                raise CalibrationError(
                    f"{path} is damaged: of tensor {name}, {error}.",
                    hint="Calibrate again, or copy the file again.",
                    details={"tensor": name},
                    code="calibration-histogram",
                ) from None
        return Calibration(data["model"], about, tensors)


def _about(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a cache says of its model and data.

    Raises:
        DocumentError: it does not, or in other types.
    """
    about = document.get("data")
    if not isinstance(document.get("model"), str) or not isinstance(about, dict):
        raise DocumentError("it does not say which model and data it is of")
    for key, kind in (("source", str), ("digest", str), ("batches", int), ("samples", int)):
        if not isinstance(about.get(key), kind) or isinstance(about[key], bool):
            raise DocumentError(f"it does not say its data's {key}")
    return about


def side_by_side(mine: Mapping[str, float], theirs: Mapping[str, float]) -> pd.DataFrame:
    """Ranges by tensor of two calibrations as rows; see `Calibration.compare`."""
    import pandas as pd

    rows = []
    for name in dict.fromkeys([*mine, *theirs]):
        a, b = mine.get(name), theirs.get(name)
        ratio = 1.0 if a == b else b / a if a and b is not None else None  # the same, 0 beside 0 too
        rows.append({"tensor": name, "this": a, "other": b, "ratio": ratio})
    frame = pd.DataFrame(rows, columns=["tensor", "this", "other", "ratio"])
    change = (frame["ratio"].astype(float) - 1).abs().fillna(float("inf"))
    return frame.iloc[change.argsort()[::-1]].reset_index(drop=True)


def collect(
    model: Any, tensors: Sequence[str], folder: Path, reporter: Reporter, scratch: Path
) -> dict[str, Histogram]:
    """Run an FP32 model (an `onnx_ir.Model`; its outputs are changed) on the batches of `folder`; in a worker.

    Raises:
        CalibrationError: ONNX Runtime can't run it, or a tensor is not finite.
    """
    import onnxruntime as ort

    from workbench.passes.cast import save_ir

    wanted = set(tensors)
    values = {v.name: v for node in model.graph for v in node.outputs if v.name in wanted}
    values.update({v.name: v for v in model.graph.inputs if v.name in wanted})
    shown = [name for name in tensors if not values[name].is_graph_input()]
    del model.graph.outputs[:]
    model.graph.outputs.extend(values[name] for name in shown)
    path = scratch / "calibrate.onnx"
    save_ir(model, path)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    files = sorted(folder.glob("*.npz"))
    found = {name: Histogram() for name in tensors}
    reporter.progress("Calibrating", 0, len(files))
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]) if shown else None
        for i, batch in enumerate(read_batches(folder)):
            for name, value in zip(shown, session.run(shown, batch) if session else [], strict=True):
                found[name].observe(value)
            for name in wanted & set(batch):
                found[name].observe(batch[name])
            reporter.progress("Calibrating", i + 1, len(files))
    except CalibrationError:
        raise
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
        raise raised(CalibrationError, "ONNX Runtime can't run the FP32 model on the calibration data", error) from None
    bad = [name for name, h in found.items() if h.bad]
    if bad:
        raise CalibrationError(
            f"{len(bad)} activations are NaN or infinite on the calibration data, the first is {bad[0]}.",
            hint="The FP32 model itself fails on these data; look at them before quantizing.",
        )
    return found
