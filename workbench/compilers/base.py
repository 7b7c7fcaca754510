"""Small protocols for what a compiler can do. A compiler implements those that it supports.

Every compiler is a `Compiler`: it has a name, a version and a description. Each further protocol is one `Ability`:

    Builds         turns an ONNX model into an engine and a record of its layers
    Runs           executes an engine
    Profiles       measures an engine: latency, time per layer
    Calibrates     finds activation ranges with the compiler's own calibrators
    Partitions     reports which operators of a model it supports
    Refits         puts other weights into a built engine
    Diagnoses      reports where an engine can run
    Examines       reports what the installed library offers
    ListsTactics   reads the tactics that a build timed from its log

Work that loads a native library is named as a worker task, ``"module:function"``, and runs in a worker process
(`workbench.core.jobs`). A task takes a `workbench.core.worker.Reporter` and JSON-able keyword arguments: those that its
protocol lists and those of `Compiler.arguments`. The other methods are quick and load no native library.

`workbench.compilers.registry` finds compilers by name; `workbench.compilers.testing` checks what one declares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, runtime_checkable

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig
    from workbench.compilers.options import Options
    from workbench.hardware.target import Target
    from workbench.plan.vocabulary import Vocabulary


class Ability(str, Enum):
    """Something that a compiler may be able to do; each maps to one protocol (see `PROTOCOLS`)."""

    BUILD = "build"
    RUN = "run"
    PROFILE = "profile"
    CALIBRATE = "calibrate"
    PARTITION = "partition"
    REFIT = "refit"
    DIAGNOSE = "diagnose"
    EXAMINE = "examine"
    TACTICS = "tactics"


@dataclass(frozen=True)
class CompilerInfo:
    """What a compiler is and can do on this machine, found without loading it.

    Attributes:
        name: Its name, such as ``tensorrt_rtx``.
        version: Its version; None if it is not installed.
        targets: Targets that it can build for, if they are known without loading it.
        abilities: What it can do here.
        missing: For each ability that it lacks here, the reason.
        install: The command that makes it available.
        notes: Further facts, one sentence each.
        error: Why it could not be loaded or described; None for a compiler that works.
    """

    name: str
    version: str | None
    targets: tuple[Target, ...] = ()
    abilities: frozenset[Ability] = frozenset()
    missing: Mapping[Ability, str] = field(default_factory=dict)
    install: str | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None

    @property
    def available(self) -> bool:
        """Whether it can build here."""
        return Ability.BUILD in self.abilities


@dataclass(frozen=True)
class Requirement:
    """One requirement for an engine to run on this machine.

    Attributes:
        what: ``compiler``, ``version``, ``GPU`` or ``platform``.
        ok: Whether it is met; None if unknown.
        text: Why, and what to do.
    """

    what: str
    ok: bool | None
    text: str


class Tactic(TypedDict):
    """One tactic that was timed for one layer in one combination of tensor formats.

    ``tactic`` is the compiler's number for it, ``name`` its kernel's name if the log has one, ``time_ms`` the
    compiler's own measurement, ``formats`` the tensor formats it was tried with, ``runner`` the kind of implementation.
    ``chosen``: the engine uses it for this layer.
    """

    layer: str
    tactic: str
    name: str
    runner: str
    formats: str
    time_ms: float
    chosen: bool


@runtime_checkable
class Compiler(Protocol):
    """The base protocol of every compiler."""

    @property
    def name(self) -> str:
        """Its name, part of an engine's key."""
        ...

    def describe(self) -> CompilerInfo:
        """What it is and can do here. Quick; loads no native library."""
        ...

    def version(self) -> str:
        """Exact version, part of an engine's key.

        Raises:
            CompilerUnavailableError: the compiler is not installed.
        """
        ...

    def arguments(self) -> dict[str, Any]:
        """Arguments that each of its tasks takes in addition to those that the protocol lists."""
        ...


@runtime_checkable
class HasVocabulary(Compiler, Protocol):
    """A compiler with its own layer names, such as abbreviated operations. This is not an ability."""

    def vocabulary(self) -> Vocabulary:
        """What these names mean; quick, loads no native library."""
        ...


@runtime_checkable
class Builds(Compiler, Protocol):
    """Turns an ONNX model into an engine.

    `build_task` takes ``model`` (path of the ONNX file), ``config`` (`BuildConfig.to_dict`), ``folder`` and ``cache`` (a
    file where timings may be kept for later builds). It writes into ``folder``: ``engine``, ``build.log`` and
    ``record.json`` (a `workbench.plan.record.Record`), and returns a JSON-able dict.

    Attributes:
        options: The type of its options; `workbench.compilers.options.Options` itself if it has none.
        evidence: How a layer's nodes are known if the record does not say so: ``reported``, ``name``, ``tensor-region``.
        build_task: The worker task.
        preload: Modules that a worker may import while it waits for its task.
    """

    @property
    def options(self) -> type[Options]: ...  # noqa: D102 - see the class

    @property
    def evidence(self) -> str: ...  # noqa: D102 - see the class

    @property
    def build_task(self) -> str: ...  # noqa: D102 - see the class

    @property
    def preload(self) -> tuple[str, ...]: ...  # noqa: D102 - see the class

    def complete(self, config: BuildConfig) -> BuildConfig:
        """Fill in what the config leaves open (compiler and target), so that equal builds have equal keys.

        Raises:
            ConfigError: the config asks for something that this compiler lacks.
            CompilerUnavailableError: the compiler is not installed.
        """
        ...


@runtime_checkable
class Runs(Compiler, Protocol):
    """Executes engines.

    `run_task` opens an engine and answers requests until it is closed. It takes ``engine`` (path), ``built`` (the compiler that made
    it), ``shape_profile``, ``cache`` (a file for kernels compiled at run time, or None), ``finite`` and the compiler's own
    options; it opens a `workbench.measure.runner.Runner` and passes it to `workbench.measure.serve.serve`.
    """

    @property
    def runner(self) -> str:
        """The function that opens a `Runner` in a worker's process; see `workbench.measure.runner.open_runner`."""
        ...

    @property
    def run_task(self) -> str:
        """The worker task."""
        ...


@runtime_checkable
class Profiles(Compiler, Protocol):
    """Measures engines.

    `profile_task` takes ``engine`` (path), ``folder`` and ``file`` (where the profile goes), ``inputs`` and ``reference``
    (paths or None), ``built`` (what made the engine) and the options of `workbench.measure.profile`, and returns the
    profile that it wrote.
    """

    @property
    def profile_task(self) -> str:
        """The worker task."""
        ...


@runtime_checkable
class Calibrates(Compiler, Protocol):
    """Finds ranges of activations for INT8 with its own calibrators.

    `calibrate_task` takes ``model``, ``method``, ``batches`` (a folder that `workbench.precision.data.gather`
    wrote), ``cache`` (the file that it writes), ``folder`` (for its log) and ``percentile``.
    """

    @property
    def calibrate_task(self) -> str:
        """The worker task."""
        ...


@runtime_checkable
class Partitions(Compiler, Protocol):
    """Reports which operators of a model it supports, without building.

    `partition_task` takes ``model`` and ``operators`` (types of ONNX's own domain to ask about), and returns ``groups``
    (indices into ``graph.node``, one list for each part that would be one engine), ``refused`` (reason by index, as
    text), ``unknown`` (types among ``operators`` that it can't import) and ``version``.
    """

    @property
    def partition_task(self) -> str:
        """The worker task."""
        ...


@runtime_checkable
class Refits(Compiler, Protocol):
    """Puts other weights into a built engine.

    `refit_task` takes ``engine``, ``out``, ``built`` and either ``weights`` (`workbench.core.shared_arrays.Place`) or
    ``model`` (path of an ONNX file with the same graph).
    """

    @property
    def refit_task(self) -> str:
        """The worker task."""
        ...


@runtime_checkable
class Diagnoses(Compiler, Protocol):
    """Reports where its engines can run, without opening them."""

    def requirements(self, built: Mapping[str, Any], config: BuildConfig) -> list[Requirement]:
        """What an engine requires of this machine, such as its version and GPU.

        `workbench.compilers.compatibility` adds whether the compiler is installed, and the platform.

        Args:
            built: What made it: ``name``, ``version``, ``target``, ``gpu`` (of a plan's ``compiler``).
            config: What was requested.
        """
        ...

    def runs_on(self, arch: str, built: Mapping[str, Any], config: Mapping[str, Any]) -> bool | None:
        """Whether an engine runs on a GPU architecture, such as ``sm90``; None if it might.

        Args:
            arch: The architecture.
            built: As for `requirements`.
            config: `BuildConfig.to_dict` of the engine.
        """
        ...

    def known_issues(self, built: Mapping[str, Any]) -> dict[str, str]:
        """Known reports about running such engines, by target; empty for most.

        Args:
            built: As for `requirements`; ``name`` and ``target`` are enough.
        """
        ...


@runtime_checkable
class Examines(Compiler, Protocol):
    """Reports what the installed library offers, for ``workbench doctor``.

    `examine_task` takes only `arguments`, and returns ``version``, ``targets`` and other helpful facts.
    """

    @property
    def examine_task(self) -> str:
        """The worker task."""
        ...


@runtime_checkable
class ListsTactics(Compiler, Protocol):
    """Reads from a build log which tactics were timed."""

    def tactics(self, log: Iterable[str]) -> list[Tactic]:
        """The tactics that a log lists, in its order; empty where it lists none."""
        ...


PROTOCOLS: Mapping[Ability, type[Compiler]] = {
    Ability.BUILD: Builds,
    Ability.RUN: Runs,
    Ability.PROFILE: Profiles,
    Ability.CALIBRATE: Calibrates,
    Ability.PARTITION: Partitions,
    Ability.REFIT: Refits,
    Ability.DIAGNOSE: Diagnoses,
    Ability.EXAMINE: Examines,
    Ability.TACTICS: ListsTactics,
}
"""The protocol of each ability."""


def offered(compiler: Compiler) -> frozenset[Ability]:
    """The abilities whose protocol `compiler` implements, whether or not it can use them on this machine."""
    return frozenset(ability for ability, protocol in PROTOCOLS.items() if isinstance(compiler, protocol))
