"""Whether code that a model names may be called.

A model of a session says where it came from, so that it can be exported again at another shape: a sample, or a factory
``package.module:function``. Of a model that came in an archive these are the words of whoever made the archive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workbench.core.errors import StoreError
from workbench.model.model import Model


def imported(model: Model) -> Mapping[str, Any] | None:
    """What is known of the archive that `model` came in: ``archive`` (its name), ``trust``; None where it did not."""
    found = model.origin.get("imported")
    return found if isinstance(found, dict) else None


def trusted(model: Model) -> bool:
    """Whether code that `model` names may be called: it was made here, or its user said so."""
    found = imported(model)
    return found is None or found.get("trust") is True


def mark(model: Model, archive: str, *, trust: bool) -> Model:
    """`model` as one that came in the archive of this name."""
    return replace(model, origin={**model.origin, "imported": {"archive": archive, "trust": trust}})


def torch_source(model: Model) -> str | None:
    """The sample or factory that `model` was exported from; None where it was not exported from one.

    Raises:
        StoreError: it came in an archive and is not trusted. The code is ``untrusted``.
    """
    key = {"sample": "name", "factory": "spec"}.get(str(model.origin.get("kind")))
    source = model.origin.get(key) if key else None
    if not isinstance(source, str):
        return None
    if not trusted(model):
        archive = (imported(model) or {}).get("archive")
        raise StoreError(
            f"Model {model.name} came in the archive {archive}, which says that it is exported from {source!r}. That "
            "would run code that the archive chose, so it is not done.",
            hint="Build it at the shapes that it has. Or name the code: session.add('package.module:factory'). If you "
            f"trust who made the archive: session.models.trust({model.name!r}), Session.from_archive(path, trust=True), or "
            f"workbench trust {model.name} --session NAME.",
            details={"model": model.name, "source": source},
            code="untrusted",
        )
    return source
