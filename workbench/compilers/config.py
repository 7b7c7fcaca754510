"""The configuration of a build: the fields that every compiler has, and the compiler's options.

A `BuildConfig` is immutable, validated and hashable. Its `digest` is part of the key of a built engine, so two equal
requests share one engine.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainSerializer, SerializeAsAny, WithJsonSchema, field_validator, model_validator

from workbench.compilers.options import Options, RecordedOptions
from workbench.core.errors import ConfigError, WorkbenchError
from workbench.core.frozen import Frozen
from workbench.hardware.devices import ARCHITECTURES
from workbench.hardware.target import Target
from workbench.model.shape_profile import Shape, ShapeProfile

if TYPE_CHECKING:
    from workbench.model.model import Model

Precision = Literal["fp32", "fp16", "bf16"]
DEFAULT_COMPILER = "tensorrt"
"""The compiler of a config that names none."""

_Target = Annotated[Target, PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})]


class BuildConfig(Frozen):
    """The configuration of a build. ``None`` always means the compiler's default.

    The fields below are for every compiler. `options` holds the options of the chosen one, such as
    `workbench.compilers.tensorrt.options.TensorRTOptions`; read one as ``config.options.tf32``. ``BuildConfig.of`` and
    ``session.build`` take both as plain keywords: ``BuildConfig.of(targets="sm89", tf32=False)``.
    """

    compiler: str = Field(DEFAULT_COMPILER, description="Which compiler: see `workbench doctor`.")
    targets: tuple[_Target, ...] = Field(
        (),
        description=f"What to build for: a GPU architecture ({', '.join(ARCHITECTURES)}), current for the GPU of this machine, "
        "or cpu. Several with +, if the compiler can put them into one engine. If none is named, the compiler chooses.",
    )
    precision: Precision = Field("fp32", description="fp32 keeps the graph as it is; fp16 and bf16 convert it first.")
    profiles: tuple[ShapeProfile, ...] = Field((), description="Shapes of dynamic inputs.")
    workspace: int | None = Field(None, gt=0, description="Scratch memory limit, in bytes.")
    optimization_level: int | None = Field(None, ge=0, le=5, description="Builder effort, from 0 to 5.")
    options: SerializeAsAny[Options] = Field(Options(), description="Options of the compiler.")

    @field_validator("targets", mode="before")
    @classmethod
    def _read_targets(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part for part in value.replace("+", ",").split(",") if part]
        if isinstance(value, Target):
            value = [value]
        if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(v, str | Target) for v in value):
            raise ConfigError(
                f"Targets are names, not {value!r}.", hint='Write targets="sm89" or "sm86+sm89".', code="unknown-target"
            )
        return tuple(Target.parse(each) if isinstance(each, str) else each for each in value)

    @field_validator("profiles", mode="before")
    @classmethod
    def _one_profile(cls, value: Any) -> Any:
        return (value,) if isinstance(value, ShapeProfile) else value

    @model_validator(mode="before")
    @classmethod
    def _read_options(cls, data: dict[str, Any]) -> dict[str, Any]:
        compiler = str(data.get("compiler", DEFAULT_COMPILER))
        if unknown := [name for name in data if name not in cls.model_fields]:
            raise _unknown_option(compiler, unknown[0])
        return {**data, "options": _options(compiler, data.get("options"))}

    @staticmethod
    def of(**values: Any) -> BuildConfig:
        """A config from plain keywords: fields of `BuildConfig` and options of the compiler, in any order.

        Raises:
            ConfigError: an option does not exist (``unknown-option``), belongs to another compiler
                (``option-of-another-compiler``), or its value does not fit; or a target does not exist (``unknown-target``).
        """
        core, own = _split(values)
        compiler = str(core.get("compiler", DEFAULT_COMPILER))
        given = core.get("options")
        if isinstance(given, Options):
            given = given.model_dump(exclude_defaults=True)
        return BuildConfig(**{**core, "options": _options(compiler, {**(given or {}), **own})})

    def replace(self, **changes: Any) -> BuildConfig:
        """A copy with some fields or options changed. With another compiler, it must have the options that were set.

        Raises:
            ConfigError: as for `of`.
        """
        kept = {name: getattr(self, name) for name in BuildConfig.model_fields}
        if isinstance(self.options, RecordedOptions) and "compiler" not in changes:
            return BuildConfig(**{**kept, **changes})
        return BuildConfig.of(**{**kept, **changes})

    def option(self, name: str, default: Any = None) -> Any:
        """The value of one of the compiler's options; `default` if this compiler has no such option."""
        known = {*type(self.options).model_fields, *(self.options.model_extra or ())}
        return getattr(self.options, name) if name in known else default

    @property
    def target(self) -> str:
        """The targets as people type them: ``sm89``, ``sm86+sm89``; "" if none is named."""
        return "+".join(map(str, self.targets))

    def to_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults, as flat JSON-able data; `from_dict` reads it back."""
        core = self.model_dump(mode="json", exclude_defaults=True, exclude={"options"})
        return {**core, **self.options.model_dump(mode="json", exclude_defaults=True)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> BuildConfig:
        """The inverse of `to_dict`, for stored builds.

        A stored build may be older or come from elsewhere: targets that this version does not know, and options of a
        compiler that is not installed, stay as they are.

        Raises:
            ConfigError: a value does not fit, or no compiler has an option of that name.
        """
        core, own = _split(data)
        if isinstance(names := core.get("targets"), list | tuple) and all(isinstance(name, str) for name in names):
            core["targets"] = tuple(Target.recorded(name) for name in names)
        return BuildConfig(**{**core, "options": _recorded(str(core.get("compiler", DEFAULT_COMPILER)), own)})

    @property
    def opt_shapes(self) -> dict[str, Shape]:
        """Shapes of inputs at which costs are counted: the opt shapes of the first profile."""
        return self.profiles[0].sizes if self.profiles else {}

    @property
    def opt_values(self) -> dict[str, Shape]:
        """Values of inputs that are read as a shape, at which costs are counted: the opt values of the first profile."""
        return self.profiles[0].usual if self.profiles else {}

    @property
    def digest(self) -> str:
        """SHA-256 of what differs from the defaults: a new option does not change the keys of old engines."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def options_of(compiler: str) -> type[Options]:
    """The type of a compiler's options.

    Raises:
        ConfigError: there is no compiler of that name.
        CompilerUnavailableError: it can't be loaded, or builds nothing.
    """
    from workbench.compilers import registry
    from workbench.compilers.base import Builds

    return registry.get(compiler, Builds).options


def config_schema(compiler: str) -> dict[str, Any]:
    """The JSON schema of `BuildConfig.to_dict` for one compiler: flat, with the compiler's options.

    Raises:
        ConfigError: there is no compiler of that name.
        CompilerUnavailableError: it can't be loaded, or builds nothing.
    """
    core, own = BuildConfig.model_json_schema(), options_of(compiler).model_json_schema()
    properties = {name: entry for name, entry in core["properties"].items() if name != "options"}
    definitions = {**core.get("$defs", {}), **own.get("$defs", {})}
    return {
        "title": f"BuildConfig of {compiler}",
        "type": "object",
        "properties": {**properties, **own.get("properties", {})},
        "additionalProperties": False,
        "$defs": {name: entry for name, entry in definitions.items() if name != "Options"},
    }


def check_targets(config: BuildConfig, offered: Sequence[Target], *, several: bool = False) -> None:
    """Refuse targets that a compiler does not build for.

    Args:
        config: What was requested.
        offered: The compiler's targets.
        several: Whether one engine can hold several targets.

    Raises:
        ConfigError: a target is not offered (``target-not-offered``), or there are too many (``one-target``).
    """
    names = ", ".join(map(str, offered))
    for target in config.targets:
        if target not in offered:
            raise ConfigError(
                f"{config.compiler} does not build for {target}.",
                hint=f"It builds for {names}.",
                code="target-not-offered",
                details={"target": str(target), "offered": [str(t) for t in offered]},
            )
    if len(config.targets) > 1 and not several:
        raise ConfigError(
            f"{config.compiler} builds for one target at a time, not for {config.target}.",
            hint=f"Build once for each of {', '.join(map(str, config.targets))}.",
            code="one-target",
        )


def check_profiles(model: Model, config: BuildConfig, *, values: bool = False) -> None:
    """Refuse wrong or missing shapes and values before a worker starts.

    Args:
        model: The model.
        config: With the shape profiles.
        values: Whether missing values are an error, too. A build leaves them to the compiler, which knows the inputs that
            it reads as a shape; this check follows them through the graph.

    Raises:
        ConfigError: a profile names no input or does not fit it; a dynamic input has no shape; an input that the model
            reads as a shape has no values. ``details["shapes"]`` then holds a suggestion for all of them.
    """
    from workbench.model.suggest import missing_shapes

    graph = model.graph
    for profile in config.profiles:
        for which in ("min", "opt", "max"):
            graph.check_shapes({name: getattr(r, which) for name, r in profile.inputs.items()})
            graph.check_values({name: getattr(r, which) for name, r in profile.values.items()})
    given = {name for p in config.profiles for name in (*p.inputs, *p.values)}
    valued = {name for p in config.profiles for name in p.values}
    read = [n for n, each in graph.shape_inputs.items() if n not in valued and not each.constant]
    missing = [n for n in graph.dynamic_inputs if n not in given and n not in read]
    if missing or (values and read):
        raise missing_shapes(model.name, graph, missing, read)


def _split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    core = {name: value for name, value in values.items() if name in BuildConfig.model_fields}
    return core, {name: value for name, value in values.items() if name not in core}


def _options(compiler: str, given: object) -> Options:
    """The options of `compiler` from values by name, or from those of another compiler whose names it shares."""
    if isinstance(given, RecordedOptions):
        return given
    kind = options_of(compiler)
    if given is None or type(given) is kind:
        return given or kind()
    values = given.model_dump(exclude_defaults=True) if isinstance(given, Options) else given
    if not isinstance(values, Mapping):
        raise ConfigError(f"Options are a {kind.__name__} or a dict, not {given!r}.")
    for name in values:
        if name not in kind.model_fields:
            raise _unknown_option(compiler, name)
    return kind(**values)


def _recorded(compiler: str, given: Mapping[str, Any]) -> Options:
    """The options of a stored build. They can't be validated if its compiler is not installed or had other options."""
    try:
        options_of(compiler)
    except WorkbenchError:
        return RecordedOptions(**given)
    try:
        return _options(compiler, given)
    except ConfigError as error:
        if error.code != "option-of-another-compiler":
            raise
        return RecordedOptions(**given)


def _unknown_option(compiler: str, name: str) -> ConfigError:
    """The error for an unknown option: which compiler has it, or which option is nearest."""
    own = list(options_of(compiler).model_fields)
    core = [field for field in BuildConfig.model_fields if field != "options"]
    owners = [other for other in _builders() if name in options_of(other).model_fields]
    near = difflib.get_close_matches(name, [*core, *own], 1, cutoff=0.0 if owners else 0.5)
    details = {"option": name, "compiler": compiler, "compilers": owners, "nearest": near[0] if near else None}
    known = f"The options of {compiler} are {', '.join([*core, *own])}."
    hint = f"The nearest option is {near[0]}. {known}" if near else known
    if compiler in owners:
        return ConfigError(
            f"{name} is an option of {compiler}, not a field of BuildConfig.",
            hint=f"Use BuildConfig.of({name}=...), or BuildConfig(options={{{name!r}: ...}}).",
            code="option-of-compiler",
            details=details,
        )
    if owners:
        message = f"{name} is an option of {' and '.join(owners)}, and {compiler} has no such option."
        return ConfigError(message, hint=hint, code="option-of-another-compiler", details=details)
    return ConfigError(f"{compiler} has no option {name!r}.", hint=hint, code="unknown-option", details=details)


def _builders() -> list[str]:
    """The compilers that can be loaded and have options."""
    from workbench.compilers import registry
    from workbench.compilers.base import Builds

    return [name for name in registry.compilers() if registry.find(name, Builds) is not None]
