"""The session: models, engines and the selection, shared by name between notebooks, scripts and the shell."""

from workbench.session.failures import Failure
from workbench.session.session import Session

__all__ = ["Failure", "Session"]
