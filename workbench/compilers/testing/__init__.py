"""The contract suite: what must hold for every compiler, as pytest tests that a compiler's own package imports.

    from workbench.compilers.testing import CompilerContract

    class TestMine(CompilerContract):
        compiler = "mine"
        expected_failures = {"test_open_shapes": "needs fixed shapes"}

Each test checks one thing that the compiler declares (`workbench.compilers.base`). What a compiler does not offer, or can't do
on this machine, is skipped with its reason. A test in `expected_failures` must fail: once it passes, the entry has to go.

The suite talks to the compiler as the workbench does: by its worker tasks, in worker processes. Workers import the
compiler's package by name, so it must be installed, or be on ``PYTHONPATH``.
"""

from workbench.compilers.testing.contract import CompilerContract, check_plan

__all__ = ["CompilerContract", "check_plan"]
