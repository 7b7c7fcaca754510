"""The Plan: how a compiler runs a model, in the same form for every compiler."""

from workbench.plan.assemble import assemble
from workbench.plan.memory import Liveness, liveness
from workbench.plan.plan import Layer, Plan, PlanTensor, Unclaimed

__all__ = [
    "Layer", "Liveness", "Plan", "PlanTensor", "Unclaimed", "assemble", "liveness",
]  # fmt: skip
