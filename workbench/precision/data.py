"""Batches for calibration and testing: checked, in the model's types, stored on disk."""

from __future__ import annotations

import hashlib
import importlib
import math
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core import limits
from workbench.core.documents import expanded, kind_of
from workbench.core.errors import CalibrationError, WorkbenchError, first_lines
from workbench.precision.data_files import from_file, from_folder, split
from workbench.precision.inputs import Input, checked, fit, only_input

if TYPE_CHECKING:
    import numpy as np


MIN_SAMPLES = 8
"""Smallest number of samples accepted: the extremes of fewer samples do not predict the next one."""


CACHES = (
    "Caches are written by `workbench quantize --save-calibration FILE` (JSON), and by TensorRT 10 (their first line "
    "begins with TRT-; in Python TensorRTCache.load)."
)


@dataclass(frozen=True)
class Batches:
    """Checked batches on disk.

    Attributes:
        folder: One ``.npz`` file per batch, in order.
        digest: SHA-256 of their contents.
        count: Number of batches.
        samples: Number of samples: the sum of the first dimensions.
        source: Description of the original data.
        warnings: Warnings for the user.
        places: Index of each sample in the data, from 0: some samples may have been left out.
        cut: Whether a limit ended the data early, so that there may be more data.
        total: Number of samples read, including those left out.
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
        """The labels of these samples, from the labels of all the data (or of only these samples).

        Raises:
            CalibrationError: the number of labels differs from the number of samples.
        """
        if len(given) == self.total or (self.cut and len(given) > self.total):
            return [int(given[place]) for place in self.places]
        if len(given) == self.samples:
            return [int(label) for label in given]
        raise CalibrationError(
            f"There are {len(given)} labels for {self.total} samples.",
            hint="Give one label for each sample, in the same order.",
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
        data: See `batches`; or `Batches`, for several calls with the same data: these are returned unchanged if
            there are enough samples; `limit` and `seed` then have no effect.
        inputs: The model's inputs, from `inputs_of`.
        folder: Where the batches are written; created.
        limit: At most this many batches.
        min_samples: Smallest number of samples accepted.
        seed: For ``random:N``.
        varied: Whether the data must be suitable for ranges: constant, infinite and equal batches are then refused.

    Raises:
        CalibrationError: there are no or too few samples, or a batch is NaN, constant, or of the wrong shape or type.
    """
    import numpy as np

    if limit is not None and limit < 1:
        raise CalibrationError(f"A limit of {limit} batches leaves no data.", hint="Give 1 or more, or no limit.")
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
        fitted, length = fit(raw, inputs, number)
        start = position
        position += length
        for batch in fitted:
            if limit is not None and count >= limit:
                break
            for item in inputs:
                array = checked(batch[item.name], item, number, infinite=not varied)
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
        raise CalibrationError(f"{source} contains no batches.", hint="Give a few dozen samples of real inputs.")
    flat = [
        item.name for item in inputs if item.dtype.startswith(("float", "bfloat")) and constant[item.name] is not None
    ]
    if flat and varied:
        raise CalibrationError(
            f"Input {flat[0]} is {float(constant[flat[0]]):g} in every element of every batch: {source} is constant.",
            hint="A constant gives no information about the range of a tensor; give real samples.",
        )
    _enough(samples, min_samples, source)
    if repeated and varied and count > 1:
        raise CalibrationError(
            f"All {count} batches of {source} are the same.",
            hint="Check whether a generator yields the same array repeatedly. Give samples that differ.",
        )
    warnings = []
    if source.startswith("random:"):
        warnings.append(
            "Calibrated on random numbers: the ranges do not represent your data. Use this to look at fusions and "
            "speed, never for accuracy."
        )
    if not cut and position > samples:
        left = position - samples
        warnings.append(
            f"{left} of {position} samples of {source} {'was' if left == 1 else 'were'} left out: they do not fill a batch of "
            f"{inputs[0].fixed_batch}, which the model fixes."
        )
    return Batches(folder, digest.hexdigest(), count, samples, source, tuple(warnings), tuple(places), cut, position)


def _enough(samples: int, least: int, source: str) -> None:
    if samples < least:
        raise CalibrationError(
            f"{source} contains {samples} sample{'s' if samples != 1 else ''}; at least {least} are needed.",
            hint="Give more samples (a few hundred are common), or lower min_samples.",
        )


def batches(data: Any, inputs: Sequence[Input], *, seed: int = 0) -> tuple[str, Iterable[Any]]:
    """A description of `data`, and its raw batches.

    Args:
        data: A folder of ``.npy``, ``.npz`` or image files; an ``.npy`` or ``.npz`` file with the samples along
            the first axis; ``module:factory``, a function without arguments that returns any of these;
            ``random:N`` for N batches of random numbers; an array or a dict of arrays; or any
            iterable: a generator or a DataLoader. A batch is an array, a sequence of arrays in the order of
            the inputs (further items, such as labels, are dropped), or a dict by input name.
        inputs: The model's inputs.
        seed: For ``random:N``.

    Raises:
        CalibrationError: there is no such file or function, or it can't be read.
    """
    import numpy as np

    if isinstance(data, Path) or (isinstance(data, str) and not data.startswith("random:")):
        text = str(data)
        path = expanded(text)
        if kind_of(path) == "folder":
            return f"Folder {path}", from_folder(path, inputs)
        if path.suffix in {".npy", ".npz"} or kind_of(path) == "file":
            return f"File {path}", from_file(path, inputs)
        module, colon, name = text.partition(":")
        if colon and module and name.isidentifier():
            made = _factory(module, name)
            if isinstance(made, str) and made == text:
                raise CalibrationError(f"{text} returns its own name.")
            return text, batches(made, inputs, seed=seed)[1]
        raise CalibrationError(
            f"There are no calibration data {text!r}: it is not a folder, an .npy or .npz file, or module:factory.",
            hint="random:32 calibrates on random numbers, to look at fusions only.",
        )
    if isinstance(data, str):
        number = data.partition(":")[2]
        if not re.fullmatch("[0-9]{1,12}", number) or int(number) == 0:
            raise CalibrationError(f"{data!r} does not give a number of batches.", hint="Write random:32.")
        return data, random_batches(inputs, int(number), seed)
    if isinstance(data, Mapping):
        return "The given arrays", split({str(k): np.asarray(v) for k, v in data.items()}, inputs)
    if isinstance(data, np.ndarray):
        return "The given array", split({only_input(inputs, "an array"): data}, inputs)
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
            f"An object of type {type(data).__name__} is not calibration data.",
            hint="Pass a folder, an .npz or .npy file, module:factory, random:N, arrays, or an iterable.",
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
                hint=f"Give one: shapes={{{item.name!r}: {text.replace('?', '64')!r}}}.",
                shell_hint=f"Give one: --shape {item.name}={text.replace('?', '64')}.",
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
                # 0 and 1 are valid for every vocabulary, mask and type id.
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
    """The raw batches; an error in the user's code is reported with its file and line."""
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
        hint="The error is in the code that provides the data: run it separately.",
    )
