"""Batches from files: arrays in .npy and .npz, folders of them, and folders of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core.errors import CalibrationError
from workbench.precision.arrays import read_arrays, read_image
from workbench.precision.inputs import Input, only_input

if TYPE_CHECKING:
    import numpy as np


_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}


_CHUNK = 8  # samples per batch, if the model takes any number and the data are one array


def from_file(path: Path, inputs: Sequence[Input]) -> Iterator[dict[str, np.ndarray]]:
    """The batches in a .npy or .npz file."""
    return split(_load(path, inputs), inputs)


def _load(path: Path, inputs: Sequence[Input]) -> dict[str, np.ndarray]:
    arrays = read_arrays(path)
    if not isinstance(arrays, dict):
        return {only_input(inputs, path.name): arrays}
    if len(inputs) == 1 and len(arrays) == 1:
        return {inputs[0].name: next(iter(arrays.values()))}
    return arrays


def split(arrays: Mapping[str, np.ndarray], inputs: Sequence[Input]) -> Iterator[dict[str, np.ndarray]]:
    """Split arrays with all samples along the first axis into batches; an extra leading axis counts whole batches."""
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
        # A remainder smaller than a fixed batch goes with the last batch: `fit` leaves it out and a warning says so.
        end = total if start + size == whole else start + size
        yield {i.name: arrays[i.name][start:end] for i in inputs}


def _same_length(what: str, lengths: Mapping[str, int]) -> None:
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise CalibrationError(f"The inputs have different numbers of {what}: {told}.")


def from_folder(path: Path, inputs: Sequence[Input]) -> Iterator[dict[str, np.ndarray]]:
    """The batches in a folder of .npy and .npz files, or of images.

    Raises:
        CalibrationError: the folder holds neither, or they do not fit the model.
    """
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in {".npy", ".npz"} and f.is_file())
    if files:
        for file in files:
            arrays = _load(file, inputs)
            if all(i.name in arrays and arrays[i.name].ndim == len(i.shape) - 1 for i in inputs):
                yield {i.name: arrays[i.name][None] for i in inputs}  # one sample, without the batch axis
            else:
                yield from split(arrays, inputs)
        return
    images = sorted(f for f in path.rglob("*") if f.suffix.lower() in _IMAGES and f.is_file())
    if not images:
        raise CalibrationError(
            f"Folder {path} holds neither .npy, .npz nor image files.",
            hint="Save each batch with numpy.savez(file, input_name=array).",
        )
    yield from _pictures(images, inputs)


def _pictures(files: Sequence[Path], inputs: Sequence[Input]) -> Iterator[dict[str, np.ndarray]]:
    """Images as RGB in 0..1, resized to the input; further normalization is up to the user."""
    import numpy as np

    name = only_input(inputs, "a folder of images")
    shape = inputs[0].shape
    if len(shape) != 4 or shape[1] not in (1, 3) or not all(isinstance(d, int) for d in shape[2:]):
        raise CalibrationError(
            f"Images fit an input of shape [batch, 3, height, width]; {name} is {list(shape)}.",
            hint="Prepare the data and save them with numpy.save, or give shapes=.",
            shell_hint="Prepare the data and save them with numpy.save, or give --shape.",
        )
    for file in files:
        sized = read_image(file, "RGB" if shape[1] == 3 else "L", (int(shape[3] or 1), int(shape[2] or 1)))
        array = np.asarray(sized, dtype=np.float32) / 255
        array = array.transpose(2, 0, 1) if array.ndim == 3 else array[None]
        yield {name: np.repeat(array[None], inputs[0].fixed_batch or 1, axis=0)}
