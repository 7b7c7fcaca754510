"""Verifies an exported file: checks it as ONNX, runs it in ONNX Runtime, and compares it with the torch module.

If results differ, the module's result in FP64 is the reference. A comparison can't verify a module whose FP32 results
differ from FP64, or change when its weights change by a few roundings (a top-k over nearly equal scores). Then the
export is not at fault, and a warning says so.
"""

from __future__ import annotations

import copy
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.core.errors import ModelError, first_lines
from workbench.model.call import Call, of_library, outputs_of, run

if TYPE_CHECKING:
    import numpy as np

Check = Literal["error", "warn", "off"]

TOLERANCE = 1e-2
"""Maximum allowed difference from torch, relative to the largest output."""

_ROUNDING = 1e-6
"""Relative change of weights and inputs that shows whether results depend on rounding: about 8 roundings of FP32."""

_TRIES = 3

_LARGEST = 1_500_000_000
"""Maximum size in bytes of a file whose intermediate results are compared."""


def check_file(path: Path) -> None:
    """Check that `path` is valid ONNX.

    Raises:
        ModelError: it is not valid.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"torch.onnx.export wrote a file that is not valid ONNX: {first_lines(error, 2)}",
            hint="The file was not kept. Report this to PyTorch, with the module.",
            code="export-invalid",
        ) from None


def compare(
    module: Any,
    path: Path,
    calls: Mapping[str, Call],
    *,
    dynamic: Mapping[str, Mapping[int, str]],
    names: Sequence[str],
    check: Check = "error",
    program: Any = None,
) -> tuple[dict[str, Any], list[str]]:
    """Run the file in ONNX Runtime and compare its outputs with the module's.

    Args:
        module: In evaluation mode.
        path: The exported file.
        calls: Inputs by the name of the set of shapes: "example" first, then other shapes.
        dynamic: Open dimensions by input.
        names: Names of the outputs.
        check: "warn" keeps a file whose results differ, with a warning.
        program: The exported program (``torch.export.ExportedProgram``), to find the first operation that differs.

    Returns:
        The largest relative difference for each of `calls`, or why nothing was compared; and warnings.

    Raises:
        ModelError: the file can't be loaded or run, or its results differ.
    """
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except states.InvalidGraph as error:
        raise ModelError(
            f"torch.onnx.export wrote a graph that ONNX Runtime finds invalid: {first_lines(error)}",
            hint="The file was not kept. Report this to PyTorch, with the module.",
            code="export-invalid",
        ) from None
    except Exception as error:  # noqa: BLE001 - ONNX Runtime lacks some operators; that does not affect TensorRT
        return _unchecked(f"ONNX Runtime can't load it: {first_lines(error)}")
    wanted = [i.name for i in session.get_inputs()]
    errors: dict[str, Any] = {}
    warnings: list[str] = []
    for label, call in calls.items():
        example = label == "example"
        try:
            feeds = {n: _real(t.detach()).cpu().numpy() for n, t in call.tensors.items() if n in wanted}
        except TypeError as error:  # a data type that numpy lacks
            return _unchecked(first_lines(error))
        try:
            expected = _outputs(module, call)
        except Exception as error:
            if example:
                raise
            raise ModelError(
                f"The module itself does not run at {_shapes(call, dynamic)}, which its shape range allows: "
                f"{first_lines(error)}",
                hint="Give a range of shapes that it takes, or fixed shapes.",
                code="module-fails",
            ) from error
        try:
            got = session.run(None, feeds)
        except states.NotImplemented as error:
            return _unchecked(f"ONNX Runtime can't run it: {first_lines(error)}")
        except Exception as error:  # noqa: BLE001 - any error of ONNX Runtime becomes one of the workbench
            if not example:
                raise _fixed(call, calls["example"], dynamic, str(error)) from None
            found = f"ONNX Runtime fails to run the exported model: {first_lines(error)}"
            if check == "warn":
                return _unchecked(found)
            raise ModelError(found, hint=_KEEP, code="export-fails") from None
        if len(expected) != len(got):
            raise ModelError(
                f"The module returns {len(expected)} tensors, and the exported model {len(got)} ({', '.join(names)}).",
                hint="Report this to PyTorch, with the module.",
                code="export-differs",
            )
        for name, ours, theirs in zip(names, expected, got, strict=True):
            if tuple(ours.shape) != tuple(theirs.shape):
                what = f"output {name} has shape {list(theirs.shape)} instead of {list(ours.shape)}"
                if not example:
                    raise _fixed(call, calls["example"], dynamic, what)
                if check == "warn":
                    return {**errors, label: float("inf")}, [*warnings, f"In the exported model, {what}."]
                raise ModelError(f"In the exported model, {what}.", hint=_KEEP, code="export-differs")
        errors[label] = max((difference(a, b) for a, b in zip(expected, got, strict=True)), default=0.0)
        if errors[label] > TOLERANCE:
            warnings.append(
                _judged(module, call, label, names, expected, got, check, partial(_first, program, path, call))
            )
    return errors, warnings


_KEEP = 'To keep it with a warning: session.add(..., check="warn"), or workbench --check warn ... in the shell.'


def difference(one: Any, other: Any) -> float:
    """Largest difference of two arrays or tensors, relative to the largest finite value of the first.

    Infinite if only one of them is finite at some position.
    """
    import numpy as np

    a, b = _array(one), _array(other)
    if a.shape != b.shape:
        return float("inf")
    scale = float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) or 1.0
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0)) / scale


def _outputs(module: Any, call: Call) -> list[Any]:
    return [_real(t) for _, t in outputs_of(call(module)).tensors]


def _real(tensor: Any) -> Any:
    """A complex tensor as the exporter writes it: the last dimension holds the real and imaginary part."""
    import torch

    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _array(value: Any) -> np.ndarray:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().to(torch.float64).numpy()
    return np.asarray(value, dtype=np.float64)


def _unchecked(why: str) -> tuple[dict[str, Any], list[str]]:
    return {"not compared": why}, [f"The exported model was not compared with the module: {why}"]


def _judged(
    module: Any,
    call: Call,
    label: str,
    names: Sequence[str],
    expected: Sequence[Any],
    got: Sequence[Any],
    check: Check,
    first: Callable[[], str],
) -> str:
    """Explain a difference as a warning; raise an error if the export is wrong."""
    again = _outputs(module, call)
    if any(difference(a, b) > TOLERANCE for a, b in zip(expected, again, strict=True)):
        return (
            "The module itself returns other results in each run (it draws random numbers, or keeps a state), "
            "so the exported model could not be compared with it."
        )
    exact, reason = _in_fp64(module, call)
    measure = expected if exact is None else exact
    off = {n: difference(m, g) for n, m, g in zip(names, measure, got, strict=True)}
    wrong = {n: e for n, e in off.items() if e > TOLERANCE}
    if not wrong:
        own = max(difference(m, t) for m, t in zip(measure, expected, strict=True))
        return (
            f"PyTorch's FP32 result differs from its own in FP64 by {own:.2g} of the largest output ({label}); "
            f"the exported model's by {max(off.values()):.2g}."
        )
    unstable = dict.fromkeys(names, 0.0)
    for other in ([exact] if exact is not None else []) + _jittered(module, call):
        for n, a, b in zip(names, other, expected, strict=True):
            unstable[n] = max(unstable[n], difference(a, b))
    if all(unstable[n] > TOLERANCE for n in wrong):
        worst = max(wrong, key=lambda n: wrong[n])
        return (
            f"Rounding decides what the module returns: in {worst}, PyTorch's own FP32 result changes by "
            f"{unstable[worst]:.2g} of the largest value {'in FP64 or ' if exact is not None else ''}when weights and "
            f"inputs change by {_ROUNDING:g}; the exported model differs by {wrong[worst]:.2g}."
            f"{_deciding(module, call, wide=exact is not None)} The comparison says nothing about the export."
        )
    name = next(n for n in wrong if unstable[n] <= TOLERANCE)
    text = (
        f"The exported model's output {name} differs from {'PyTorch in FP64' if exact is not None else 'PyTorch'} by "
        f"{wrong[name]:.2g} of the largest value ({label}); PyTorch's own FP32 result is stable to {unstable[name]:.2g}."
        + (f" (FP64 was not available as a reference: {reason}.)" if exact is None else "")
        + first()
    )
    if check == "warn":
        return text
    raise ModelError(
        text,
        hint=f"The exporter translated an operation incorrectly. {_KEEP}",
        code="export-differs",
        details={"error": wrong[name], "output": name, "shapes": {n: list(t.shape) for n, t in call.tensors.items()}},
    )


def _in_fp64(module: Any, call: Call) -> tuple[list[Any] | None, str]:
    """The module's outputs in FP64; None and the reason if they can't be computed."""
    try:
        wide = copy.deepcopy(module).double()
        return _outputs(wide, _doubled(call)), ""
    except Exception as error:  # noqa: BLE001 - it may be written for FP32 only; the reason is returned
        return None, f"{type(error).__name__}: {first_lines(error)}"


def _doubled(call: Call) -> Call:
    return call.with_tensors({n: t.double() for n, t in call.tensors.items() if t.is_floating_point()})


def _jittered(module: Any, call: Call) -> list[list[Any]]:
    """Outputs after changes of the weights and inputs that are as small as rounding."""
    return [_outputs(*_jitter(module, call, seed)) for seed in range(_TRIES)]


def _jitter(module: Any, call: Call, seed: int) -> tuple[Any, Call]:
    """A copy of the module and its call, with weights and inputs changed by as much as rounding does."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def jitter(tensor: Any) -> Any:
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float32).to(tensor.device)
        return (tensor * (1 + _ROUNDING * noise)).to(tensor.dtype)

    try:
        other = copy.deepcopy(module)
    except Exception:  # noqa: BLE001 - a module that can't be copied keeps its weights; its inputs still change
        other = module
    if other is not module:
        for tensor in [*other.parameters(), *other.buffers()]:
            if tensor.is_floating_point():
                tensor.data = jitter(tensor.data)
    return other, call.with_tensors({n: jitter(t) for n, t in call.tensors.items() if t.is_floating_point()})


def _deciding(module: Any, call: Call, *, wide: bool) -> str:
    """A sentence with the first operation whose decision (indices, a comparison) differs in FP64, or after a change."""
    try:
        changed = (copy.deepcopy(module).double(), _doubled(call)) if wide else _jitter(module, call, 0)
        before, after = _decisions(module, call), _decisions(*changed)
    except Exception:  # noqa: BLE001 - only a help for the message, which then lacks this sentence
        return ""
    found = []
    for (op, place, ours), (other, _, theirs) in zip(before, after, strict=False):
        if op != other or ours.shape != theirs.shape:
            break  # from here on the two runs diverge
        if not bool((ours == theirs).all()):
            found.append((op, place))
    # The positions of a maximum are often computed and not used, so another operation is more likely.
    best = next((f for f in found if f[0] not in {"aten.max.dim", "aten.min.dim"}), found[0] if found else None)
    return f" The first operation that then decides differently: {best[0]}{best[1]}." if best else ""


def _first(program: Any, path: Path, call: Call) -> str:
    """A sentence with the first operation of the program whose result differs in the exported file."""
    import onnx
    import onnxruntime as ort
    import torch
    from torch.utils import _pytree as pytree

    if program is None or path.stat().st_size > _LARGEST:
        return ""
    seen: dict[str, tuple[Any, Any]] = {}

    class Recorder(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, n: Any) -> Any:
            made = super().run_node(n)
            if n.op == "call_function" and isinstance(made, torch.Tensor) and made.is_floating_point():
                seen[n.name] = (n, made.clone())
            return made

    try:
        leaves = pytree.tree_leaves((call.args, call.kwargs))
        Recorder(program.module()).run(*leaves, enable_io_processing=False)
        model = onnx.load(str(path))
        outputs = {v.name for v in model.graph.output}
        made = [o for node in model.graph.node for o in node.output if o in seen]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made if name not in outputs)
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        wanted = {i.name for i in session.get_inputs()}
        feeds = {n: _real(t.detach()).cpu().numpy() for n, t in call.tensors.items() if n in wanted}
        got = dict(zip(made, session.run(made, feeds), strict=True))
    except Exception:  # noqa: BLE001 - only a help for the message, which then lacks this sentence
        return ""
    for name, (node, result) in seen.items():
        if name in got and difference(_real(result), got[name]) > TOLERANCE:
            frames = re.findall(r'File "([^"]+)", line (\d+), in', node.meta.get("stack_trace") or "")
            frames = [f for f in frames if not of_library(f[0])]
            place = f" at {frames[-1][0]}:{frames[-1][1]}" if frames else ""
            return f" The first operation whose result differs: {node.target}{place}."
    return ""


def _decisions(module: Any, call: Call) -> list[tuple[str, str, Any]]:
    """Operations that compute integers or booleans from floating-point numbers: name, the user's line, the result."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[tuple[str, str, Any]] = []

    class Recorder(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            floats = any(isinstance(a, torch.Tensor) and a.is_floating_point() for a in args)
            results = made if isinstance(made, tuple | list) else [made]
            for result in results if floats else ():
                if isinstance(result, torch.Tensor) and not (result.is_floating_point() or result.is_complex()):
                    frames = [f for f in traceback.extract_stack() if not of_library(f.filename)]
                    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
                    found.append((str(func), place, result.clone()))
            return made

    with Recorder():
        run(module, call)
    return found


def _shapes(call: Call, dynamic: Mapping[str, Any]) -> str:
    return ", ".join(f"{n} {list(t.shape)}" for n, t in call.tensors.items() if n in dynamic)


def _fixed(call: Call, example: Call, dynamic: Mapping[str, Any], why: str) -> ModelError:
    tried, used = _shapes(call, dynamic), _shapes(example, dynamic)
    return ModelError(
        f"A dimension that should be dynamic was fixed at export: the model, exported at {used}, does not run "
        f"at {tried} ({why.splitlines()[0][:200]}).",
        hint="The module uses a size as a plain number (int(x.shape[0]), a stored size, a Python loop). "
        "Use x.shape[0] directly, or build with fixed shapes.",
        details={"exported": used, "tried": tried},
        code="fixed-dimension",
    )
