"""Code of processes that build with a slow compiler."""

from __future__ import annotations

BUILD = """
import sys
from pathlib import Path
from workbench import Session
session = Session(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
engine = session.build(sys.argv[1], compiler="tests_slow")
print(engine.cached, engine.key, flush=True)
session.close()
"""


# A compiler that says how often it really worked, and gives the others time to come.
SLOW = """
import os, sys, time
from pathlib import Path
from workbench.compilers import registry, fake
class Slow(fake.Fake):
    name = "tests_slow"
    build_task = "slow_compiler:build"
    preload = ()
    def complete(self, config):
        return config.replace(compiler="tests_slow", targets=("sm89",))
def make(): return Slow()
registry._OWN["tests_slow"] = "slow_compiler:make"
def build(reporter, **arguments):
    with open(os.environ["COUNT_FILE"], "a") as file:
        file.write("built\\n")
    time.sleep(1.0)
    return fake.build(reporter, **arguments)
"""
