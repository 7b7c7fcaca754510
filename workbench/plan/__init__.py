"""What a compiler made of a model, whoever compiled it."""

from workbench.plan.assemble import assemble
from workbench.plan.memory import Liveness, liveness
from workbench.plan.plan import SCHEMA, Layer, Plan, PlanTensor, Unclaimed, schema

__all__ = [
    "SCHEMA", "Layer", "Liveness", "Plan", "PlanTensor", "Unclaimed", "assemble", "liveness", "schema",
]  # fmt: skip
