"""Lines of Python that "Show as code" shows in several panels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench import compilers
from workbench.compilers.config import DEFAULT_COMPILER, BuildConfig

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.plan import Plan


def arguments(values: dict[str, Any]) -> str:
    """Keyword arguments as Python writes them, with a leading comma."""
    return "".join(f", {name}={value!r}" for name, value in values.items())


def arguments_of(config: BuildConfig) -> str:
    """A config as keyword arguments of `Session.build`, with a leading comma."""
    data = config.to_dict()
    data.pop("profiles", None)
    parts = []
    if data.get("compiler") == compilers.get(DEFAULT_COMPILER).name:
        data.pop("compiler")
    if "targets" in data:
        parts.append(f"target={'+'.join(data.pop('targets'))!r}")
    parts += [f"{name}={tuple(value) if isinstance(value, list) else value!r}" for name, value in data.items()]
    if config.profiles:
        parts.append(f"shapes={config.profiles[0].texts!r}")
    return "".join(f", {part}" for part in parts)


def build_line(engine: Engine) -> str:
    """The call that builds `engine`, or finds it again."""
    return f"engine = session.build({engine.model!r}{arguments_of(engine.config)})"


def inspect_line(plan: Plan) -> str:
    """The call that reads `plan` from trtexec's files."""
    files = dict(plan.facts.get("inspected") or {"layers": plan.facts.get("file", "LAYERS.json")})
    rest = "".join(f", {name}={value!r}" for name, value in files.items() if name != "layers" and value)
    return f"plan = session.files.inspect({files['layers']!r}{rest})"
