"""The session: models, engines and the selection under one name, shared by notebooks, scripts and the shell."""

from workbench.session.session import Failure, Session

__all__ = ["Failure", "Session"]
