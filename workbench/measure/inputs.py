"""Data for measuring an engine: random inputs, files of arrays, and reference outputs."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError, first_lines
from workbench.hardware.host import numpy_type

if TYPE_CHECKING:
    from workbench.measure.runner import Runner


def check_batches(batches: Any) -> None:
    """Check that the value is a list of batch sizes.

    Raises:
        ConfigError: it is not a list of integers of at least 1.
    """
    if batches is None:
        return
    listed = isinstance(batches, Sequence) and not isinstance(batches, str | bytes)
    wrong = (
        [b for b in batches if isinstance(b, bool) or not isinstance(b, numbers.Integral) or b < 1] if listed else []
    )
    if not listed or wrong:
        said = ", ".join(map(repr, wrong)) if listed else repr(batches)
        raise ConfigError(f"Not a list of batch sizes: {said}." if not listed else f"No batch size: {said}.",
                          hint="Give integers of at least 1, as in batches=[1, 8, 32].")  # fmt: skip


def check_names(runner: Runner, shapes: Mapping[str, Any]) -> None:
    """Check that the engine has all inputs for which shapes are given.

    Raises:
        ConfigError: the engine does not have an input.
    """
    names = [port.name for port in runner.inputs]
    if unknown := [name for name in shapes if name not in names]:
        raise ConfigError(f"Shapes are given for {', '.join(unknown)}; the engine's inputs are {', '.join(names)}.",
                          hint=f'Name an input of the engine, as in shapes={{"{names[0]}": ...}}.')  # fmt: skip


def random_inputs(runner: Runner, shapes: Mapping[str, list[int]], seed: int) -> dict[str, Any]:
    """Normal numbers for floating-point inputs and ones for integers, by name.

    Args:
        runner: The engine.
        shapes: Shapes by input; those that the engine was tuned for by default.
        seed: Seed of the random numbers.

    Raises:
        ConfigError: there are no random values of an input's data type.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    types = {port.name: port.dtype for port in runner.inputs}
    found = {}
    for name, opt in runner.opt_shapes().items():
        shape, dtype = tuple(shapes.get(name, opt)), types[name]
        if dtype in {"float64", "float32", "float16", "bfloat16"}:
            found[name] = rng.standard_normal(shape, dtype=np.float32).astype(numpy_type(dtype))
        elif dtype in {"int32", "int64", "int8", "uint8", "bool"}:
            found[name] = np.ones(shape, dtype=dtype)
        else:
            raise ConfigError(f"There are no random values of type {dtype or 'unknown'} for input {name}.",
                              hint="Give the inputs as an .npz file.")  # fmt: skip
    return found


def read_arrays(path: str) -> dict[str, Any]:
    """The arrays of an .npz file by name.

    Raises:
        ConfigError: it is not such a file.
    """
    import zipfile

    import numpy as np

    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ConfigError(f"{path} contains one array without a name.", hint="np.savez(path, NAME=array)")
        with file:
            return {name: _typed(file[name]) for name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} is not an .npz file of arrays: {error}.") from None


def _typed(array: Any) -> Any:
    """NumPy writes ml_dtypes' bfloat16 as two bytes without a type; no other type is written like that."""
    if array.dtype.kind != "V" or array.dtype.itemsize != 2:
        return array
    import ml_dtypes

    return array.view(ml_dtypes.bfloat16)


def reference_outputs(path: str, host: Mapping[str, Any], notes: list[str]) -> dict[str, Any] | None:
    """The outputs to compare with; None, with a note, if ONNX Runtime can't run the model.

    Args:
        path: An .npz file of outputs by name, or an ONNX file, which ONNX Runtime runs on the CPU.
        host: The inputs by name.
        notes: Receives the note.
    """
    if path.endswith(".npz"):
        return read_arrays(path)
    try:
        return _by_onnxruntime(path, host)
    except ImportError:
        notes.append("no reference: pip install onnxruntime")
    except Exception as error:  # noqa: BLE001 - its exceptions have no common base; times can still be measured
        notes.append(f"no reference: ONNX Runtime can't run {Path(path).name} on the CPU: {first_lines(error)}")
    return None


def _by_onnxruntime(path: str, host: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Higher levels have faults: ONNX Runtime 1.32 drops a Relu before an FP8 QuantizeLinear (ReluQuantRewrite).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
    # The reference may be in FP32 while the engine takes FP16: use the same values, widened.
    given = {i.name: np.asarray(host[i.name]).astype(types.get(i.type, np.asarray(host[i.name]).dtype))
             for i in session.get_inputs() if i.name in host}  # fmt: skip
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def reference_name(reference: str) -> str:
    """Description of the reference."""
    return f"{Path(reference).name}" + ("" if reference.endswith(".npz") else ", ONNX Runtime on the CPU")
