"""The contract suite: pytest tests that every compiler must pass. The compiler's package imports them.

    from workbench.compilers.testing import CompilerContract

    class TestMine(CompilerContract):
        compiler = "mine"
        expected_failures = {"test_open_shapes": "needs fixed shapes"}

Each test checks one thing that the compiler declares (`workbench.compilers.base`). Tests of what a compiler does not offer
or can't do on this machine are skipped with the reason. A test in `expected_failures` must fail: once it passes, remove it.

The suite uses the compiler as the workbench does: it runs the worker tasks in worker processes. Workers import the
compiler's package by name, so it must be installed, or be on ``PYTHONPATH``.
"""

from workbench.compilers.testing.contract import CompilerContract, check_plan

__all__ = ["CompilerContract", "check_plan"]
