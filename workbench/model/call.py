"""How a torch module is called: its example inputs by name, however they are nested, and what it returns.

`torch.onnx.export` takes a module's inputs as its ``forward`` does: by position and by keyword, in lists and dicts,
with numbers, strings, and None among them. An ONNX file holds only tensors, each with its own name.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError, first_lines

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Call:
    """Example inputs of a module.

    Attributes:
        signature: The signature of ``forward``, with a separate parameter for each keyword that ``**kwargs`` took.
        arguments: By parameter, in the signature's order. Parameters without a value are absent.
        names: A name for each tensor in `arguments`, in order: the name of the parameter, followed by the keys or
            positions if the parameter holds several tensors.
    """

    signature: inspect.Signature
    arguments: dict[str, Any]
    names: tuple[str, ...]

    @staticmethod
    def of(module: Any, inputs: Sequence[Any] | Mapping[str, Any]) -> Call:
        """The call of `module` with `inputs`: a mapping by keyword, a tuple or list by position, or one tensor.

        Raises:
            ModelError: ``forward`` does not take such inputs.
        """
        signature = _signature(module)
        by_name = isinstance(inputs, Mapping)
        given: Sequence[Any] = () if by_name else inputs if isinstance(inputs, tuple | list) else (inputs,)
        try:
            bound = signature.bind(*given, **(dict(inputs) if isinstance(inputs, Mapping) else {}))
        except TypeError as error:
            takes = ", ".join(str(p) for p in signature.parameters.values())
            raise ModelError(
                f"{type(module).__name__}.forward does not take these inputs: {error}. It takes ({takes}).",
                hint="Give inputs=(first, second, ...) by position, or inputs={name: tensor, ...} by name"
                + (". For a forward that takes one dict, give inputs=({...},)." if by_name else "."),
                code="export-inputs",
            ) from None
        signature, arguments = _spelled(signature, dict(bound.arguments))
        for place, leaf in _paths(arguments):
            if not (_is_tensor(leaf) or isinstance(leaf, _CONSTANTS)):
                raise ModelError(
                    f"Input {place} is a {type(leaf).__module__}.{type(leaf).__qualname__}, which can't be an input of an "
                    "ONNX model.",
                    hint="Give torch tensors, or lists and dicts of them. Otherwise wrap the module in one that takes tensors; "
                    "torch.export.register_dataclass registers a dataclass.",
                    code="export-inputs",
                )
        return Call(signature, arguments, tuple(_unique(_names(arguments))))

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments."""
        return inspect.BoundArguments(self.signature, _ordered(self.arguments)).args

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments."""
        return inspect.BoundArguments(self.signature, _ordered(self.arguments)).kwargs

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by name."""
        return dict(zip(self.names, (leaf for leaf in _leaves(self.arguments) if _is_tensor(leaf)), strict=True))

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Call:
        """The same call with `tensors` replaced. Tensors that are not named stay."""
        names = iter(self.names)

        def other(leaf: Any) -> Any:
            return tensors.get(next(names), leaf) if _is_tensor(leaf) else leaf

        return dataclasses.replace(self, arguments=_mapped(other, self.arguments))

    def with_keyword(self, name: str, value: Any) -> Call:
        """The same call with one more keyword argument, which is not a tensor."""
        bound = self.signature.bind(*self.args, **{**self.kwargs, name: value})
        signature, arguments = _spelled(self.signature, dict(bound.arguments))
        return dataclasses.replace(self, signature=signature, arguments=arguments)

    def takes(self, name: str) -> bool:
        """Whether ``forward`` takes this keyword."""
        parameters = self.signature.parameters
        return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    def dynamic_shapes(self, dynamic: Mapping[str, Mapping[int, Any]]) -> dict[str, Any]:
        """`dynamic` (by tensor name and dimension) in the form of the arguments, as ``torch.export`` requires."""
        names = iter(self.names)

        def dims(leaf: Any) -> Any:
            return dict(dynamic.get(next(names), {})) or None if _is_tensor(leaf) else None

        return dict(_mapped(dims, self.arguments))

    @contextmanager
    def spelled(self, module: Any) -> Iterator[None]:
        """`module` with this signature: torch.export can't open dimensions of what ``**kwargs`` takes."""
        if not any(name not in _signature(module).parameters for name in self.signature.parameters):
            yield
            return
        forward, own = module.forward, "forward" in vars(module)

        def spelled(*args: Any, **kwargs: Any) -> Any:
            return forward(*args, **kwargs)

        spelled.__signature__ = self.signature  # type: ignore[attr-defined]
        module.forward = spelled
        try:
            yield
        finally:
            if own:
                module.forward = forward
            else:
                del module.forward

    def __call__(self, module: Any) -> Any:
        """What `module` returns."""
        return module(*self.args, **self.kwargs)


def plain(module: Any) -> Any:
    """The module that ``torch.compile``, DataParallel, or DistributedDataParallel wrapped, or `module` itself."""
    import torch

    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        inner = module.module if isinstance(module, wrappers) else getattr(module, "_orig_mod", None)
        if not isinstance(inner, torch.nn.Module):
            return module
        module = inner


def title_of(module: Any) -> str:
    """The name of the class in the user's code, also for a compiled, parallel, traced, or scripted module."""
    module = plain(module)
    return str(getattr(module, "original_name", "") or type(module).__qualname__.rpartition(".")[2])


@contextmanager
def evaluation(module: Any) -> Iterator[None]:
    """Within the context, `module` is in evaluation mode and its compiled and parallel submodules are unwrapped."""
    modes = [(part, part.training) for part in module.modules()]
    swapped = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if plain(child) is not child
    ]
    with suppress(NotImplementedError):  # the module of an exported program has only one mode
        module.eval()
    for parent, name, child in swapped:
        setattr(parent, name, plain(child))
    try:
        yield
    finally:
        for parent, name, child in swapped:
            setattr(parent, name, child)
        for part, training in modes:
            part.training = training


@dataclass(frozen=True)
class Outputs:
    """The return value of a module.

    Attributes:
        tensors: The tensors in order, each with the keys or attributes that lead to it ("" if only positions do).
        others: Values that are neither tensors nor containers of tensors, with a description of where they are.
        plain: Whether torch.export knows the containers that hold the tensors.
    """

    tensors: tuple[tuple[str, torch.Tensor], ...]
    others: tuple[tuple[str, Any], ...]
    plain: bool


def outputs_of(made: Any) -> Outputs:
    """The tensors in a module's return value: in lists, tuples, dicts, dataclasses, and transformers' ModelOutput."""
    tensors: list[tuple[str, Any]] = []
    others: list[tuple[str, Any]] = []

    def walk(value: Any, path: tuple[str, ...], named: bool) -> None:
        if value is None:
            return
        if _is_tensor(value):
            tensors.append(("_".join(path) if named else "", value))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                walk(item, (*path, str(key)), named=True)
        elif isinstance(value, tuple | list):
            keys = getattr(value, "_fields", None)  # a namedtuple
            for i, item in enumerate(value):
                walk(item, (*path, keys[i] if keys else str(i)), named=named or bool(keys))
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            for entry in dataclasses.fields(value):
                walk(getattr(value, entry.name), (*path, entry.name), named=True)
        else:
            inside = _leaves(value)  # its type is registered with torch
            if inside and all(_is_tensor(item) for item in inside):
                for i, item in enumerate(inside):
                    walk(item, (*path, str(i)), named)
            else:
                others.append((".".join(path) or "the result", value))

    walk(made, (), named=False)
    known = all(leaf is None or _is_tensor(leaf) for leaf in _leaves(made))
    return Outputs(tuple(tensors), tuple(others), known)


def run(module: Any, call: Call) -> Any:
    """What `module` returns for `call`.

    Raises:
        ModelError: the module raises an error.
    """
    try:
        return call(module)
    except Exception as error:
        shapes = ", ".join(f"{n} {list(t.shape)}" for n, t in call.tensors.items())
        raise ModelError(
            f"{title_of(module)} itself fails with these inputs ({shapes}): {type(error).__name__}: "
            f"{first_lines(error)}{place_of(error)}",
            hint="Give inputs for which module(*inputs) runs.",
            code="module-fails",
        ) from error


def place_of(error: BaseException) -> str:
    """The last line of the user's code in an error's traceback, as " (file:line)"; empty if there is none."""
    import traceback

    frames = [f for f in traceback.extract_tb(error.__traceback__) if not of_library(f.filename)]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def of_library(file: str) -> bool:
    """Whether a frame is not the user's code: its file belongs to torch or to the workbench, or there is no file."""
    import torch

    import workbench

    folders = tuple(str(Path(package.__file__ or "").parent) + os.sep for package in (torch, workbench))
    return file.startswith(("<", *folders))


def _signature(module: Any) -> inspect.Signature:
    import torch

    if isinstance(module, torch.jit.ScriptModule):  # has a schema but no signature
        parameters = [
            inspect.Parameter(
                a.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=a.default_value if a.has_default_value() else inspect.Parameter.empty,
            )
            for a in module.forward.schema.arguments
            if a.name != "self"
        ]
        return inspect.Signature(parameters)
    return inspect.signature(module.forward)


def _spelled(signature: inspect.Signature, arguments: dict[str, Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    """A parameter for each keyword that ``**kwargs`` took."""
    rest = next((p for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
    if rest is None or rest.name not in arguments:
        return signature, arguments
    more = arguments.pop(rest.name)
    listed = [p for p in signature.parameters.values() if p is not rest]
    listed += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in more]
    return signature.replace(parameters=[*listed, rest]), {**arguments, **more}


_CONSTANTS = (type(None), bool, int, float, complex, str, enum.Enum)
"""Types that an input may have besides a tensor. Such an input becomes a constant of the graph."""


def _paths(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values in the arguments, with the name of the parameter and the keys that lead to each value."""
    from torch.utils import _pytree as pytree

    for path, leaf in pytree.tree_flatten_with_path(dict(arguments))[0]:
        yield "_".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path), leaf


def _names(arguments: Mapping[str, Any]) -> Iterator[str]:
    return (re.sub(r"[^\w.]", "_", place) for place, leaf in _paths(arguments) if _is_tensor(leaf))


def _unique(names: Iterator[str]) -> Iterator[str]:
    taken: set[str] = set()
    for name in names:
        unique, k = name, 0
        while unique in taken:
            k += 1
            unique = f"{name}_{k}"
        taken.add(unique)
        yield unique


def _ordered(arguments: Mapping[str, Any]) -> Any:
    from collections import OrderedDict

    return OrderedDict(arguments)


def _leaves(value: Any) -> list[Any]:
    from torch.utils import _pytree as pytree

    return list(pytree.tree_leaves(value))


def _mapped(change: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    from torch.utils import _pytree as pytree

    mapped: dict[str, Any] = pytree.tree_map(change, arguments)
    return mapped


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
