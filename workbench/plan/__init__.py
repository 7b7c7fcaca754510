"""What a compiler made of a model, whoever compiled it."""

from workbench.plan.assemble import assemble
from workbench.plan.memory import Liveness, liveness
from workbench.plan.plan import Layer, Plan, PlanTensor, Unclaimed

__all__ = [
    "Layer", "Liveness", "Plan", "PlanTensor", "Unclaimed", "assemble", "liveness",
]  # fmt: skip
