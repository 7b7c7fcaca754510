"""The tests of the contract suite; see `workbench.compilers.testing`."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import pytest

from workbench.compilers import registry
from workbench.compilers.base import (
    PROTOCOLS,
    Ability,
    Builds,
    Compiler,
    CompilerInfo,
    Diagnoses,
    Examines,
    HasVocabulary,
    ListsTactics,
    Partitions,
    Profiles,
    Requirement,
    Runs,
    offered,
)
from workbench.compilers.config import BuildConfig, config_schema
from workbench.compilers.options import Options
from workbench.compilers.testing.models import OPEN, expected, input_of, relative_error, write_models
from workbench.core.errors import CancelledError, ConfigError, WorkbenchError, WorkerCrashedError
from workbench.core.jobs import Job
from workbench.core.shared_arrays import ReceivedArrays, SentArrays
from workbench.hardware.target import CPU, GPUS
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.model.shape_profile import ShapeProfile
from workbench.plan.assemble import assemble
from workbench.plan.join import ProfiledLayer, ProfiledLayers, join
from workbench.plan.plan import Plan
from workbench.plan.reasons import REASONS
from workbench.plan.vocabulary import NEUTRAL

if TYPE_CHECKING:
    from workbench.core.worker import Reporter
    from workbench.plan.record import Record

LIMIT = 300.0
"""Seconds after which a task of the suite is stopped."""

TOLERANCE = 0.02
"""Largest relative L2 error of an FP32 engine's outputs: TF32 rounds products to 10 bits."""

P = TypeVar("P", bound=Compiler)


def check_plan(plan: Plan, record: Mapping[str, Any]) -> None:
    """Assert what every plan must satisfy: it has each layer of the record, and each node has a layer or a reason.

    Args:
        plan: Assembled from `record` and the model.
        record: The compiler's record.
    """
    assert [layer.name for layer in plan.layers] == [raw["name"] for raw in record["layers"]]
    assert [layer.type for layer in plan.layers] == [raw["type"] for raw in record["layers"]]
    assert len(plan.by_id) == len(plan.layers)
    claimed = {n for layer in plan.layers for n in layer.nodes}
    left = {u.node for u in plan.unclaimed}
    assert not claimed & left
    assert len(claimed) + len(left) == plan.model["nodes"] == plan.summary["nodes"]
    assert all(u.reason in REASONS and u.text for u in plan.unclaimed)
    assert all((layer.evidence == "none") == (not layer.nodes) for layer in plan.layers)
    assert plan.summary["layers"] == len(plan.layers)
    assert plan.summary["launches_after"] + plan.summary["other_branches"] == sum(la.launches for la in plan.layers)
    assert not plan.facts["activation_memory_disagrees"], plan.facts["activation_memory_computed"]
    products = [la for la in plan.layers if la.kind in {"conv", "gemm", "attention"}]
    assert [la.name for la in products if la.flops == 0] == []  # unknown is None
    assert sum(plan.summary["kinds"].values()) == len(plan.layers)
    assert plan.summary["peak_activation_bytes"] >= 0
    assert Plan.from_dict(json.loads(plan.to_json())).to_json() == plan.to_json()


class Built:
    """One build of the suite: its folder, config, record and plan."""

    def __init__(self, compiler: Builds, path: Path, folder: Path, config: BuildConfig) -> None:
        self.path, self.folder, self.config = path, folder, config
        folder.mkdir(parents=True)
        job = Job(
            compiler.build_task, {}, title=f"build of {path.name}", preload=compiler.preload, time_limit=LIMIT
        )  # fmt: skip
        job.start(
            model=str(path), config=config.to_dict(), folder=str(folder), cache=str(folder / "timings"),
            **compiler.arguments(),
        )  # fmt: skip
        job.result()
        self.record: Record = json.loads((folder / "record.json").read_text())
        model = Model(path.stem, path)
        shapes = {n: r.opt for p in config.profiles for n, r in p.inputs.items()}
        self.plan = assemble(
            model.graph.at(shapes, {}), self.record, model=(model.name, fingerprint(path, set())), config=config.to_dict(),
            evidence=compiler.evidence, renamed={}, provenance=model.provenance,
            vocabulary=compiler.vocabulary() if isinstance(compiler, HasVocabulary) else NEUTRAL,
        )  # fmt: skip

    @property
    def engine(self) -> Path:
        """The engine's file."""
        return self.folder / "engine"

    def arguments(self, compiler: Compiler) -> dict[str, Any]:
        """Arguments of the tasks that open the engine."""
        return {**compiler.arguments(), "engine": str(self.engine), "built": self.record["compiler"]}


_models: dict[type, dict[str, Path]] = {}
_builds: dict[type, dict[str, Built]] = {}


class CompilerContract:
    """The tests. Subclass it with the name of a compiler."""

    compiler: ClassVar[str] = ""
    """The name by which `workbench.compilers.get` finds it."""

    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Reason by test (``test_run``, or ``test_run[mlp]`` for one model). Strict: such a test must fail."""

    @pytest.fixture(autouse=True)
    def _expected(self, request: pytest.FixtureRequest) -> None:
        names = (request.node.name, getattr(request.node, "originalname", request.node.name))
        for name in names:
            if name in self.expected_failures:
                request.applymarker(pytest.mark.xfail(reason=self.expected_failures[name], strict=True))

    @pytest.fixture
    def models(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
        """The models by name, written once for the class. Override it to add or leave out models."""
        if type(self) not in _models:
            _models[type(self)] = write_models(tmp_path_factory.mktemp("models"))
        return _models[type(self)]

    @pytest.fixture
    def builds(self) -> dict[str, Built]:
        """The builds so far by model, kept for the class; see `built`."""
        return _builds.setdefault(type(self), {})

    def info(self) -> CompilerInfo:
        """The compiler's description."""
        return registry.info_of(self.compiler)

    def able(self, protocol: type[P]) -> P:
        """The compiler if it can do this here; otherwise the test is skipped with the reason."""
        made = registry.get(self.compiler)
        ability = next(a for a, p in PROTOCOLS.items() if p is protocol)
        if not isinstance(made, protocol):
            pytest.skip(f"{self.compiler} does not offer {ability.value}")
        if ability not in self.info().abilities:
            pytest.skip(f"{self.compiler} can't {ability.value} here: {self.info().missing[ability]}")
        return made

    def config(self, model: str) -> BuildConfig:
        """The config of a model's build: only shapes, if they are open."""
        profiles = (ShapeProfile.parse(["x=1x8:2x8:4x8"]),) if model == OPEN else ()
        return self.able(Builds).complete(BuildConfig(compiler=self.compiler, profiles=profiles))

    def built(self, model: str, models: dict[str, Path], builds: dict[str, Built]) -> Built:
        """The build of a model, made once for the class."""
        if model not in models:
            pytest.skip(f"{model} is not among the models of {type(self).__name__}")
        if model not in builds:
            folder = models[model].parent / "builds" / model
            builds[model] = Built(self.able(Builds), models[model], folder, self.config(model))
        return builds[model]

    # --- description --------------------------------------------------------------------------------------

    def test_description(self) -> None:
        """It has a description, which says for each ability that it offers whether it can use it here."""
        info = self.info()
        assert info.error is None
        assert isinstance(info, CompilerInfo)
        own = offered(registry.get(self.compiler))
        assert info.abilities <= own
        assert not info.abilities & set(info.missing)
        described = registry.get(self.compiler).describe()
        assert own <= described.abilities | set(described.missing), "say why an ability is missing"
        assert all(reason for reason in info.missing.values())
        assert info.version is not None or info.install, "say how to install it"
        json.dumps({"abilities": sorted(info.abilities), "missing": {a.value: w for a, w in info.missing.items()}})

    def test_version_is_stable(self) -> None:
        """The version is part of an engine's key."""
        if self.info().version is None:
            pytest.skip("not installed")
        made = registry.get(self.compiler)
        assert made.version() == made.version() == self.info().version

    def test_expected_failures_name_tests(self) -> None:
        """Every entry of `expected_failures` names a test and a reason."""
        for name, reason in self.expected_failures.items():
            assert hasattr(self, name.partition("[")[0]), name
            assert reason, name

    def test_tasks_take_what_is_sent(self) -> None:
        """Every task can be imported in a worker, and takes the arguments that the workbench sends."""
        made = registry.get(self.compiler)
        if self.info().version is None:
            pytest.skip("not installed")
        sent = {
            Ability.BUILD: ("build_task", {"model", "config", "folder", "cache"}),
            Ability.RUN: ("run_task", {"engine", "built", "shape_profile", "cache", "finite"}),
            Ability.PROFILE: ("profile_task", {"engine", "folder", "file", "inputs", "reference", "built"}),
            Ability.CALIBRATE: ("calibrate_task", {"model", "method", "batches", "cache", "folder", "percentile"}),
            Ability.PARTITION: ("partition_task", {"model", "operators"}),
            Ability.REFIT: ("refit_task", {"engine", "out", "built", "weights", "model"}),
            Ability.EXAMINE: ("examine_task", set()),
        }
        tasks = {getattr(made, sent[a][0]): sent[a][1] for a in offered(made) if a in sent}
        found = Job(f"{__name__}:parameters_of", {"tasks": list(tasks)}, title="tasks", time_limit=LIMIT).result()
        for task, wanted in tasks.items():
            names, required, any_other = found[task]
            sent_here = wanted | set(made.arguments())
            lacking = sent_here - set(names)
            assert not lacking or any_other, f"{task} does not take {', '.join(sorted(lacking))}"
            assert set(required) <= sent_here, f"{task} is not given {', '.join(sorted(set(required) - sent_here))}"

    # --- building -----------------------------------------------------------------------------------------

    def test_complete_is_stable(self) -> None:
        """`complete` names compiler and targets, and completing again changes nothing: equal builds have equal keys."""
        made = self.able(Builds)
        asked = BuildConfig(compiler=self.compiler)
        first = made.complete(asked)
        assert first.compiler == made.name
        assert first.targets
        assert made.complete(first) == first
        assert made.complete(asked).digest == first.digest
        assert BuildConfig.from_dict(json.loads(json.dumps(first.to_dict()))) == first

    def test_options_are_described(self) -> None:
        """Forms, flags and schema come from the options: each has a default and a description."""
        made = self.able(Builds)
        assert issubclass(made.options, Options)
        made.options()
        for name, field in made.options.model_fields.items():
            assert field.description, name
            assert name not in BuildConfig.model_fields, f"{name} is a field of BuildConfig"
        json.dumps(config_schema(self.compiler))

    def test_an_unknown_option_is_refused(self) -> None:
        """An option that the compiler does not have is an error that names it."""
        self.able(Builds)
        with pytest.raises(ConfigError) as info:
            BuildConfig.of(compiler=self.compiler, no_such_option=1)
        assert info.value.code == "unknown-option"
        assert "no_such_option" in str(info.value)

    def test_a_target_that_it_lacks_is_refused(self) -> None:
        """A target that it does not offer is refused before a worker starts."""
        made = self.able(Builds)
        targets = self.info().targets
        others = [target for target in (CPU, *GPUS) if target not in targets]
        if not targets or not others:
            pytest.skip(f"{self.compiler} does not list its targets")
        with pytest.raises(ConfigError):
            made.complete(BuildConfig(compiler=self.compiler, targets=(others[0],)))

    @pytest.mark.parametrize("model", ["mlp", "residual", "layout"])
    def test_build(self, model: str, models: dict[str, Path], builds: dict[str, Built]) -> None:
        """A build leaves an engine, a log and a record, and its plan accounts for every node."""
        built = self.built(model, models, builds)
        check_plan(built.plan, built.record)
        assert built.record["compiler"]["name"] == registry.get(self.compiler).name
        assert built.record["compiler"]["version"]
        assert built.record["compiler"]["target"] == built.config.target
        assert built.record["engine_bytes"] == built.engine.stat().st_size > 0
        assert (built.folder / "build.log").is_file()
        assert built.record["seconds"]["total"] >= 0
        ports = {(io["name"], io["mode"]) for io in built.record["io"]}
        assert ports == {("x", "input"), ("y", "output")}
        assert not any(u.reason == "unknown" for u in built.plan.unclaimed)

    def test_open_shapes(self, models: dict[str, Path], builds: dict[str, Built]) -> None:
        """A model with an open dimension builds for the range that its shape profile gives."""
        built = self.built(OPEN, models, builds)
        check_plan(built.plan, built.record)
        assert built.config.profiles

    def test_a_damaged_model_is_refused(self, tmp_path: Path) -> None:
        """A file that is not a model is an error with a message, not a crash."""
        made = self.able(Builds)
        file = tmp_path / "damaged.onnx"
        file.write_bytes(b"\x08\x08\x12\x04nope")
        with pytest.raises(WorkbenchError) as info:
            Built(made, file, tmp_path / "build", self.config("mlp"))
        assert not isinstance(info.value, WorkerCrashedError), info.value

    def test_cancel(self, models: dict[str, Path], tmp_path: Path) -> None:
        """A build that is cancelled ends at once."""
        made = self.able(Builds)
        (tmp_path / "build").mkdir()
        job = Job(made.build_task, {}, title="build to cancel", preload=made.preload, time_limit=LIMIT)
        job.start(
            model=str(models["residual"]), config=self.config("residual").to_dict(), folder=str(tmp_path / "build"),
            cache=str(tmp_path / "timings"), **made.arguments(),
        )  # fmt: skip
        job.cancel()
        with pytest.raises(CancelledError):
            job.result(timeout=60)

    # --- running and measuring ----------------------------------------------------------------------------

    @pytest.fixture
    def opened(
        self, request: pytest.FixtureRequest, models: dict[str, Path], builds: dict[str, Built]
    ) -> Iterator[tuple[Job, dict[str, Any], Built]]:
        """A worker with an open engine, and its first message."""
        made = self.able(Runs)
        built = self.built(request.param, models, builds)
        arguments = {**built.arguments(made), "shape_profile": 0, "cache": None, "finite": True}
        job = Job(made.run_task, arguments, title=f"run of {request.param}", time_limit=LIMIT).start()
        try:
            yield job, job.ask(None), built
        finally:
            job.cancel()

    @pytest.mark.parametrize("opened", ["mlp", "residual", "layout", OPEN], indirect=True)
    def test_run(self, opened: tuple[Job, dict[str, Any], Built]) -> None:
        """An engine gives the results of ONNX's reference evaluator in every call."""
        job, ports, built = opened
        assert set(ports["inputs"]) == {"x"}
        assert set(ports["outputs"]) == {"y"}
        shared, seen = SentArrays(), ReceivedArrays()
        for seed in (1, 2):
            x = input_of(built.path, seed)
            answer = job.ask({"do": "run", "arrays": shared.put({"x": x})}, LIMIT)
            y = np.array(seen.get(answer["arrays"])["y"])
            assert answer["ms"] > 0
            assert relative_error(y, expected(built.path, x)) < TOLERANCE
        job.ask({"do": "close"}, LIMIT)
        assert job.result(timeout=60) == {"calls": 2}

    @pytest.mark.parametrize("opened", ["mlp"], indirect=True)
    def test_wrong_inputs_are_refused_and_the_engine_stays_open(
        self, opened: tuple[Job, dict[str, Any], Built]
    ) -> None:
        """A wrong name, type, shape or value is an error; the next call works."""
        job, _, built = opened
        x = input_of(built.path, 1)
        bad = x.copy()
        bad[0, 0] = np.nan
        shared, seen = SentArrays(), ReceivedArrays()
        for given in ({}, {"z": x}, {"x": x.astype(np.float64)}, {"x": x[:, :3]}, {"x": bad}):
            with pytest.raises(ConfigError):
                job.ask({"do": "run", "arrays": shared.put(given)}, LIMIT)
        answer = job.ask({"do": "run", "arrays": shared.put({"x": x})}, LIMIT)
        assert relative_error(np.array(seen.get(answer["arrays"])["y"]), expected(built.path, x)) < TOLERANCE

    @pytest.mark.parametrize("model", ["mlp", "residual"])
    def test_profile(self, model: str, models: dict[str, Path], builds: dict[str, Built], tmp_path: Path) -> None:
        """A profile has a latency, the error of the outputs, and the layers of the plan."""
        made = self.able(Profiles)
        built = self.built(model, models, builds)
        x = input_of(built.path, 1)
        np.savez(tmp_path / "in.npz", x=x)
        np.savez(tmp_path / "out.npz", y=expected(built.path, x))
        arguments = {
            **built.arguments(made), "folder": str(tmp_path / "profiles"), "file": "1.json",
            "inputs": str(tmp_path / "in.npz"), "reference": str(tmp_path / "out.npz"), "warm_up_ms": 1.0,
            "duration_ms": 5.0, "layer_iterations": 2,
        }  # fmt: skip
        found = Job(made.profile_task, arguments, title=f"profile of {model}", time_limit=LIMIT).result()
        kept = json.loads((tmp_path / "profiles" / "1.json").read_text())
        assert kept["schema"] == found["schema"] == "workbench.profile/1"
        plain = found["latency"]["plain"]
        assert 0 < plain["min_ms"] <= plain["median_ms"] <= plain["max_ms"]
        assert plain["iterations"] > 0
        assert plain["method"]
        assert found["error"]["ok"]
        assert found["error"]["relative_l2"] < TOLERANCE
        assert found["compiler"]["name"] == made.name
        assert found["device"]["name"]
        assert found["shapes"] == {"x": list(x.shape)}
        if found["layers"]:
            rows = tuple(
                ProfiledLayer(r["name"], r["mean_ms"], r["mean_ms"], r["median_ms"], None) for r in found["layers"]
            )
            assert join(ProfiledLayers(found["layer_iterations"], rows), built.plan.layers).rows
            assert all(row.mean_ms >= 0 for row in rows)

    # --- the other protocols ------------------------------------------------------------------------------

    def test_diagnose(self, models: dict[str, Path], builds: dict[str, Built]) -> None:
        """It reports what one of its engines requires, without opening it."""
        made = self.able(Diagnoses)
        built = self.built("mlp", models, builds)
        facts = {**built.record["compiler"], "gpu": None}
        for requirement in made.requirements(facts, built.config):
            assert isinstance(requirement, Requirement)
            assert requirement.ok in {True, False, None}
            assert requirement.what
            assert requirement.text
        assert made.runs_on("sm1", facts, built.config.to_dict()) in {True, False, None}
        assert all(text for text in made.known_issues(facts).values())

    def test_examine(self) -> None:
        """The installed library reports its version and targets."""
        made = self.able(Examines)
        found = Job(made.examine_task, made.arguments(), title="examine", time_limit=LIMIT).result()
        assert found["version"]
        assert found["targets"]
        json.dumps(found)

    def test_partition(self, models: dict[str, Path]) -> None:
        """It reports for every node whether it supports it."""
        made = self.able(Partitions)
        arguments = {**made.arguments(), "model": str(models["residual"]), "operators": ["Conv", "NoSuchOperator"]}
        found = Job(made.partition_task, arguments, title="partition", time_limit=LIMIT).result()
        nodes = {i for group in found["groups"] for i in group}
        assert nodes | {int(i) for i in found["refused"]} == set(range(6))
        assert found["unknown"] == ["NoSuchOperator"]
        assert found["version"]

    def test_tactics(self, models: dict[str, Path], builds: dict[str, Built]) -> None:
        """Tactics are read from a build log; a log without any lists none."""
        made = self.able(ListsTactics)
        built = self.built("mlp", models, builds)
        with (built.folder / "build.log").open(errors="replace") as log:
            for tactic in made.tactics(log):
                assert tactic["layer"]
                assert tactic["time_ms"] >= 0
        assert made.tactics([]) == []


def parameters_of(_reporter: Reporter, *, tasks: list[str]) -> dict[str, Any]:
    """A worker task: the keyword parameters of other tasks, those without a default, and whether they take any others."""
    found = {}
    for task in tasks:
        module, _, function = task.partition(":")
        parameters = list(inspect.signature(getattr(importlib.import_module(module), function)).parameters.values())[1:]
        rest = inspect.Parameter.VAR_KEYWORD
        named = [p for p in parameters if p.kind is not rest]
        required = [p.name for p in named if p.default is inspect.Parameter.empty]
        found[task] = ([p.name for p in named], required, len(named) < len(parameters))
    return found
