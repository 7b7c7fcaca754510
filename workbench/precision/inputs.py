"""A model's inputs, and conversion of arrays to fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.errors import CalibrationError

if TYPE_CHECKING:
    import numpy as np

    from workbench.model.graph import Graph
    from workbench.model.shape_profile import Shape


@dataclass(frozen=True)
class Input:
    """Requirements of one model input."""

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str

    @property
    def fixed_batch(self) -> int | None:
        """The size of the first dimension, if the model fixes it."""
        return self.shape[0] if self.shape and isinstance(self.shape[0], int) and self.shape[0] > 0 else None


def inputs_of(graph: Graph, shapes: Mapping[str, Shape] | None = None) -> list[Input]:
    """The inputs of a model, with dynamic dimensions replaced by those in `shapes`.

    Raises:
        ConfigError: `shapes` does not fit the model.
    """
    graph.check_shapes(shapes or {})
    return [
        Input(name, tuple((shapes or {}).get(name) or t.shape or ()), t.dtype)
        for name in graph.inputs
        for t in [graph.tensor(name)]
    ]


def only_input(inputs: Sequence[Input], what: str) -> str:
    """The name of the model's only input, for data without input names.

    Raises:
        CalibrationError: the model has several.
    """
    if len(inputs) != 1:
        raise CalibrationError(
            f"The model has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}) and {what} gives no input names.",
            hint="Give a dict or an .npz file with an array for each.",
        )
    return inputs[0].name


def fit(raw: Any, inputs: Sequence[Input], number: int) -> tuple[list[dict[str, Any]], int]:
    """One raw batch as arrays by input name, split into the model's batch size if fixed; and its sample count."""
    import numpy as np

    if isinstance(raw, Mapping):
        named = {str(k): as_array(v) for k, v in raw.items()}
        missing = [item.name for item in inputs if item.name not in named]
        if missing:
            raise CalibrationError(
                f"Batch {number} has no input {missing[0]}; it has {', '.join(named) or 'none'}.",
                hint=f"The model's inputs are {', '.join(i.name for i in inputs)}.",
            )
        named = {item.name: named[item.name] for item in inputs}
    elif isinstance(raw, list | tuple):
        if len(raw) < len(inputs):
            raise CalibrationError(f"Batch {number} contains {len(raw)} arrays; the model has {len(inputs)} inputs.")
        named = {item.name: as_array(value) for item, value in zip(inputs, raw, strict=False)}
    else:
        named = {only_input(inputs, f"batch {number}"): as_array(raw)}
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


def as_array(value: Any) -> np.ndarray:
    """Convert to a NumPy array, also from a torch tensor on any device."""
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def checked(array: np.ndarray, item: Input, number: int, *, infinite: bool = False) -> np.ndarray:
    """Convert the array to the input's type, or raise an error; `infinite` allows infinite values (masks)."""
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
            f"{where} contains {int(np.isnan(array).sum())} NaN and {int(np.isinf(array).sum())} infinite values.",
            hint="Check the data preparation for divisions by zero and missing values.",
        )
    kind = {"bfloat16": "float32"}.get(want, want)
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.ascontiguousarray(array.astype(kind, copy=False))
    # A cast silently wraps integers around and makes large numbers infinite.
    if not ((np.isfinite(made) | np.isinf(array)).all() if floating else (made == array).all()):
        raise CalibrationError(
            f"{where} contains values from {array.min():.4g} to {array.max():.4g}, which {want} can't represent.",
            hint="Prepare the data exactly as for inference.",
        )
    return made
