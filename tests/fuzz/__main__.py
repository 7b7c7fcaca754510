"""``python -m tests.fuzz --count 500000 --jobs 2 --seed 1``: mutated inputs for every reader; see `tests.fuzz.run`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.readers import READERS
from tests.fuzz.run import chunk, input_of, keep, merged, plan_of, run_chunk


def main() -> int:
    """Exit code 1 where an input failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="inputs in all")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--seed", type=int, default=20261129)
    parser.add_argument("--reader", action="append", choices=list(READERS), help="only this one; repeat for more")
    parser.add_argument("--out", type=Path, default=Path("tmp/fuzz"), help="folder for inputs that fail")
    parser.add_argument("--show", nargs=2, metavar=("READER", "NUMBER"), help="run one input here, with its traceback")
    parser.add_argument("--file", nargs=2, metavar=("READER", "FILE"), help="the same with a file's content")
    parser.add_argument("--chunk", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.chunk:
        chunk(asked.seed, asked.chunk[0].split(","), int(asked.chunk[1]), int(asked.chunk[2]), Path(asked.chunk[3]))
        return 0
    if asked.show or asked.file:
        name, which = asked.show or asked.file
        data = input_of(asked.seed, name, int(which)) if asked.show else Path(which).read_bytes()
        print(repr(data[:2000]))
        with tempfile.TemporaryDirectory() as place:
            print(READERS[name].read(data, Path(place)))
        return 0
    begin = time.monotonic()
    pieces = plan_of(asked.count, asked.reader or list(READERS))
    print(f"seed {asked.seed}, {len(pieces)} pieces of work", flush=True)
    results = []
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(asked.jobs) as pool:
        waiting = [pool.submit(run_chunk, asked.seed, [name], first, last, Path(place)) for name, first, last in pieces]
        for (name, first, last), one in zip(pieces, waiting, strict=True):
            results.append(one.result())
            sites = sorted({f.site for f in results[-1].failures})
            said = f": {len(results[-1].failures)} failed: {sites[:5]}" if sites else ""
            tried = sum(sum(each.tried.values()) for each in results)
            print(f"{time.monotonic() - begin:7.0f} s {tried:8d} inputs  {name} {first}..{last}{said}", flush=True)
    whole = merged(results)
    print(
        f"{sum(whole.tried.values())} inputs, {len(whole.tried)} readers, {time.monotonic() - begin:.0f} s, seed {asked.seed}"
    )
    print(f"{len(whole.failures)} failed at {len(whole.sites)} places", flush=True)
    for line in keep(asked.seed, whole, asked.out):
        print(line, flush=True)
    return 1 if whole.failures else 0


if __name__ == "__main__":
    sys.exit(main())
