"""Shapes of a model's dynamic inputs: one shape, or min, opt, and max."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from workbench.core import limits
from workbench.core.errors import ConfigError
from workbench.core.frozen import Frozen

Shape = tuple[int, ...]

_DIGITS = re.compile("[0-9]{1,19}")


class ShapeRange(Frozen):
    """The min, opt, and max shape of one input; the compiler optimizes for `opt`.

    A dimension may be 0: an empty key-value cache has no entries before the first token.
    """

    min: Shape
    opt: Shape
    max: Shape

    @model_validator(mode="after")
    def _ordered(self) -> ShapeRange:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ValueError(f"min {_x(self.min)}, opt {_x(self.opt)} and max {_x(self.max)} differ in rank")
        for low, usual, high in zip(self.min, self.opt, self.max, strict=True):
            if not 0 <= low <= usual <= high:
                raise ValueError(
                    f"min {_x(self.min)}, opt {_x(self.opt)}, max {_x(self.max)}: each dimension "
                    "needs 0 <= min <= opt <= max"
                )
        return self

    @model_validator(mode="after")
    def _possible(self) -> ShapeRange:
        limits.check("TENSOR_ELEMENTS", math.prod(max(d, 1) for d in self.max), "The largest shape")
        return self

    @property
    def fixed(self) -> bool:
        """Whether there is only one shape, so that the network can be built with static shapes."""
        return self.min == self.max

    def __str__(self) -> str:
        return _x(self.opt) if self.fixed else ":".join(map(_x, (self.min, self.opt, self.max)))


def _x(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


class ValueRange(Frozen):
    """The min, opt, and max values of one input that the model reads as a shape.

    TensorRT reads such an input on the host before it runs the network: it holds the end of a slice, a number of
    repeats, or a new shape. The elements are in order; a scalar has one.
    """

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    @model_validator(mode="after")
    def _ordered(self) -> ValueRange:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ValueError(f"values {self}: min, opt and max differ in length")
        if not all(low <= usual <= high for low, usual, high in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError(f"values {self}: each needs min <= opt <= max")
        if any(not -(2**63) <= number < 2**63 for number in (*self.min, *self.max)):
            raise ValueError("a value does not fit into INT64")
        return self

    @property
    def fixed(self) -> bool:
        """Whether there is only one value."""
        return self.min == self.max

    def __str__(self) -> str:
        parts = (self.opt,) if self.fixed else (self.min, self.opt, self.max)
        return "=" + ":".join(",".join(map(str, part)) for part in parts)


class ShapeProfile(Frozen):
    """The shapes to optimize for, like an optimization profile of TensorRT.

    Attributes:
        inputs: A `ShapeRange` for each dynamic input, by name.
        values: A `ValueRange` for each input whose values the model reads as a shape, by name.
    """

    inputs: dict[str, ShapeRange]
    values: dict[str, ValueRange] = Field(default_factory=dict)

    @staticmethod
    def parse(texts: Mapping[str, str] | list[str]) -> ShapeProfile:
        """Read shapes and values, each one or min:opt:max.

        A shape is written ``x=1x3x224x224`` or ``x=1x3x224x224:8x3x224x224:32x3x224x224``. Values of an input that the
        model reads as a shape follow two equals signs, separated by commas: ``n==8``, ``n==1:8:32``, or
        ``size==8,8:64,64:512,512``. In a mapping, the text of values starts with one: ``{"n": "=1:8:32"}``.

        Raises:
            ConfigError: a text does not have that form, or does not satisfy 0 <= min <= opt <= max.
        """
        pairs = list(texts.items()) if isinstance(texts, Mapping) else [_pair(t) for t in texts]
        inputs: dict[str, ShapeRange] = {}
        values: dict[str, ValueRange] = {}
        for name, text in pairs:
            if text.startswith("="):
                if name in values:
                    raise ConfigError(f"Input {name} has values twice.")
                values[name] = _values(name, text)
                continue
            try:
                shapes = [tuple(_whole(n) for n in part.split("x")) for part in text.split(":")]
            except ValueError:
                shapes = []
            if len(shapes) not in (1, 3):
                raise ConfigError(
                    f"Shape {name}={text} is not valid.",
                    hint=f"Write {name}=1x3x224x224, or min:opt:max as {name}=1x3x224x224:8x3x224x224:32x3x224x224.",
                )
            if name in inputs:
                raise ConfigError(f"Input {name} has two shapes.")
            low, usual, high = shapes * 3 if len(shapes) == 1 else shapes
            inputs[name] = ShapeRange(min=low, opt=usual, max=high)
        return ShapeProfile(inputs=inputs, values=values)

    @property
    def sizes(self) -> dict[str, Shape]:
        """The opt shape of each input."""
        return {name: each.opt for name, each in self.inputs.items()}

    @property
    def usual(self) -> dict[str, tuple[int, ...]]:
        """The opt values of each input that is read as a shape."""
        return {name: each.opt for name, each in self.values.items()}

    @property
    def texts(self) -> dict[str, str]:
        """Shapes and values as `parse` reads them, by input."""
        return {name: str(each) for name, each in (*self.inputs.items(), *self.values.items())}

    @property
    def fixed(self) -> bool:
        """Whether there is only one shape, and one value, of each input."""
        return all(r.fixed for r in self.inputs.values()) and all(v.fixed for v in self.values.values())

    @model_validator(mode="after")
    def _apart(self) -> ShapeProfile:
        both = sorted(self.inputs.keys() & self.values.keys())
        if both:
            raise ValueError(
                f"{', '.join(both)}: has a shape and values; give only the values, which determine the shape"
            )
        return self

    def __hash__(self) -> int:
        def ordered(items: Mapping[str, Any]) -> tuple[Any, ...]:
            return tuple(sorted(items.items(), key=lambda item: item[0]))

        return hash((ordered(self.inputs), ordered(self.values)))


def profile_of(shapes: Mapping[str, Any] | ShapeProfile | None) -> ShapeProfile | None:
    """A profile from shapes in the forms that users write: ``{"x": "1x3x224x224"}``, ``{"x": (1, 3, 224, 224)}``.

    Raises:
        ConfigError: a text is not a shape.
    """
    if shapes is None or isinstance(shapes, ShapeProfile):
        return shapes
    texts = {
        n: str(s) if isinstance(s, (str, ShapeRange, ValueRange)) else "x".join(map(str, s)) for n, s in shapes.items()
    }
    return ShapeProfile.parse(texts)


def sizes_of(shapes: Mapping[str, Any] | ShapeProfile | None) -> dict[str, Shape] | None:
    """One shape of each input. A text may have the form that a build takes; then its opt shape is used.

    Raises:
        ConfigError: a text is not a shape.
    """
    if shapes is None or isinstance(shapes, ShapeProfile):
        return None if shapes is None else shapes.sizes
    read = ShapeProfile.parse({name: shape for name, shape in shapes.items() if isinstance(shape, str)})
    given = {name: shape for name, shape in shapes.items() if name not in read.values}
    return {name: read.sizes[name] if name in read.inputs else tuple(shape) for name, shape in given.items()}


def _whole(text: str) -> int:
    """A whole number in ASCII digits; `int` would also accept underscores, spaces, and digits of other scripts."""
    if not _DIGITS.fullmatch(text):
        raise ValueError("not a whole number")
    return int(text)


def _pair(text: str) -> tuple[str, str]:
    """The name and shape of ``NAME=SHAPE``, or the name and ``=VALUES`` of ``NAME==VALUES``.

    A name may hold equals signs, but it can't end with one here.
    """
    name, sign, shape = text.rpartition("=")
    if name.endswith("=") and len(name) > 1:
        return name[:-1], f"={shape}"
    if not sign or not name:
        raise ConfigError(f"Shape {text!r} has no input name.", hint="Write NAME=1x3x224x224.")
    return name, shape


def _values(name: str, text: str) -> ValueRange:
    """``=1:8:32`` or ``=4,8`` as values."""
    try:
        parts = [tuple(int(n) for n in part.split(",")) for part in text[1:].split(":")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 3):
        raise ConfigError(
            f"Values {name}={text} are not valid.",
            hint=f"Write whole numbers: {name}==8, min:opt:max as {name}==1:8:32, or with commas where there are "
            f"several: {name}==1,1:8,8:32,32.",
        )
    low, usual, high = parts * 3 if len(parts) == 1 else parts
    return ValueRange(min=low, opt=usual, max=high)
