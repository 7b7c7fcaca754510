"""Checks: find problems, costs and notes in a model or an engine, with evidence from its data.

Each check is a pure function of a graph, a plan or a measurement and returns findings. None is general advice: a check that
finds nothing in the data returns nothing. Add one to `model_checks` or `engine_checks` and to the list in `run`.
"""

from workbench.analysis.checks.finding import SEVERITIES, Finding, Findings, Severity
from workbench.analysis.checks.run import of_engine, of_model

__all__ = ["SEVERITIES", "Finding", "Findings", "Severity", "of_engine", "of_model"]
