"""Exports a torch module, with the dynamic dimensions of a shape profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.compilers.torch_tensorrt.causes import EXPORT, way_out
from workbench.core.errors import ConfigError, ModelError, first_lines
from workbench.model.call import Call
from workbench.model.export import resize_example
from workbench.model.shape_profile import ShapeProfile

PRECISIONS = ("fp32", "fp16", "bf16")


def prepare(
    module: Any, inputs: Sequence[Any] | Mapping[str, Any], profile: ShapeProfile | None
) -> tuple[dict[str, Any], dict[str, dict[int, Any]]]:
    """Example inputs by name at the profile's opt shapes, and the dynamic dimensions of each.

    Raises:
        ConfigError: the profile names no input.
        ModelError: a shape is of another rank.
    """
    import torch

    call = Call.of(module, inputs)
    examples = call.tensors
    if call.kwargs or len(call.args) != len(examples):
        order = list(call.signature.parameters)[: len(call.arguments)]
        raise ConfigError(
            f"Inputs {', '.join(call.arguments)} are not the first arguments of forward, which are {', '.join(order)}, "
            "or are not tensors.",
            hint="Wrap the module so that its inputs are tensors and come first.",
        )
    ranges: dict[str, dict[int, tuple[int, int]]] = {}
    for name, shapes in (profile.inputs if profile else {}).items():
        if name not in examples:
            raise ConfigError(f"{name} is not an input of the module.", hint=f"It has {', '.join(examples)}.")
        both = zip(shapes.min, shapes.max, strict=True)
        ranges[name] = {d: (a, b) for d, (a, b) in enumerate(both) if a != b}
        # torch.export treats a size of 1 as a constant.
        size = tuple(min(max(2, n), shapes.max[d]) if d in ranges[name] else n for d, n in enumerate(shapes.opt))
        examples[name] = resize_example(examples[name], size)
    # Inputs whose first dimension is dynamic in the same range share it: it is the batch.
    batches = {r[0] for r in ranges.values() if 0 in r}
    batch = torch.export.Dim("batch", min=min(b[0] for b in batches), max=max(b[1] for b in batches)) if len(batches) == 1 else None  # fmt: skip
    others: dict[tuple[int, int, int], Any] = {}
    dynamic: dict[str, dict[int, Any]] = {}
    for name, dims in ranges.items():
        for d, (low, high) in dims.items():
            if d == 0 and batch is not None:
                dynamic.setdefault(name, {})[0] = batch
                continue
            # So do inputs with other equal ranges, such as ids and their mask.
            key = (d, low, high)
            if key not in others:
                others[key] = torch.export.Dim(f"dim{d}_{low}_{high}", min=low, max=high)
            dynamic.setdefault(name, {})[d] = others[key]
    return examples, dynamic


def cast(module: Any, examples: dict[str, Any], precision: str) -> tuple[Any, dict[str, Any]]:
    """A copy of the module and of the examples in `precision`; both unchanged for fp32.

    Raises:
        ConfigError: there is no such precision.
    """
    import copy

    import torch

    if precision not in PRECISIONS:
        raise ConfigError(f"There is no precision {precision!r}.", hint="There are " + ", ".join(PRECISIONS) + ".")
    if precision == "fp32":
        return module, examples
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    low = copy.deepcopy(module).to(kind)
    return low, {n: t.to(kind) if torch.is_floating_point(t) else t for n, t in examples.items()}


def export(module: Any, examples: Mapping[str, Any], dynamic: Mapping[str, Mapping[int, Any]]) -> Any:
    """``torch.export.export`` in evaluation mode.

    Raises:
        ModelError: the module can't be exported.
    """
    import torch

    training = module.training
    module.eval()
    shapes = {name: dict(dynamic[name]) if name in dynamic else None for name in examples} if dynamic else None
    try:
        with torch.no_grad():
            return torch.export.export(module, tuple(examples.values()), dynamic_shapes=None if shapes is None else tuple(shapes.values()))  # fmt: skip
    except Exception as error:
        code, hint = way_out(EXPORT, error)
        if code is None and (own := _own_error(module, examples)) is not None:
            code, hint = "module-fails", f"The module itself fails on these inputs: {first_lines(own)}"
        raise ModelError(
            f"torch.export can't export {type(module).__name__}: {first_lines(error, 3)}", hint=hint, code=code
        ) from error
    finally:
        module.train(training)


def _own_error(module: Any, examples: Mapping[str, Any]) -> Exception | None:
    """The error that the module raises when called without export; None if it runs."""
    import torch

    try:
        with torch.no_grad():
            module(*examples.values())
    except Exception as error:  # noqa: BLE001 - the user's own code raises what it likes
        return error
    return None
