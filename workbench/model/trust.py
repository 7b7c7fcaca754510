"""Whether code that a model names may run.

A model of a session says where it comes from, so that it can be exported again at another shape: a sample, or a factory
``package.module:function``. In a model from an archive, the author of the archive wrote that.
"""

from __future__ import annotations

from dataclasses import replace

from workbench.core.errors import StoreError
from workbench.model.model import Model
from workbench.model.origin import ImportedDocument


def imported(model: Model) -> ImportedDocument | None:
    """The archive that `model` came from; None if it did not come from one."""
    return model.origin.get("imported")


def trusted(model: Model) -> bool:
    """Whether code that `model` names may run: the model was made here, or the user trusts it."""
    found = imported(model)
    return found is None or found.get("trust") is True


def mark(model: Model, archive: str, *, trust: bool) -> Model:
    """`model`, marked as one that came from `archive`."""
    return replace(model, origin={**model.origin, "imported": {"archive": archive, "trust": trust}})


def torch_source(model: Model) -> str | None:
    """The sample or factory that `model` was exported from; None if it was not exported from one.

    Raises:
        StoreError: it came from an archive and is not trusted. The code is ``untrusted``.
    """
    kind = model.origin.get("kind")
    source = model.origin.get("name") if kind == "sample" else model.origin.get("spec") if kind == "factory" else None
    if source is None:
        return None
    known = imported(model)
    if known is not None and not trusted(model):
        archive = known["archive"]
        raise StoreError(
            f"Model {model.name} came from the archive {archive}, which says that it is exported from {source!r}. "
            "An export would run code that the archive names, so it was refused.",
            hint="Build it at the shapes that it has. Or name the code: session.add('package.module:factory'). If you "
            f"trust who made the archive: session.models.trust({model.name!r}), or Session.from_archive(path, trust=True).",
            shell_hint="Build it at the shapes that it has. If you trust who made the archive: "
            f"workbench trust {model.name} --session NAME.",
            details={"model": model.name, "source": source},
            code="untrusted",
        )
    return source
