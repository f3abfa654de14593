"""Runs the steps of the suite one by one, and says how each went.

`--against sink` puts the agents to a stand-in and to OAP, with the certificates of `handfast agent-certs`; `--against handfast`
to handfast's own relay and collector; without it they are put to both.
"""

import argparse
import shutil
import sys
import time
import traceback
from pathlib import Path

import comparison
import product
from arrived import Failed
from expect import Skipped
from handfast import Site


class Steps:
    """Runs steps one by one, says how each went, and goes on after one that failed."""

    def __init__(self, only):
        self.only, self.passed, self.failed, self.skipped = only, 0, 0, 0

    def step(self, name, act, *arguments):
        if self.only and self.only not in name:
            return
        began = time.monotonic()
        try:
            told = act(*arguments)
            verdict = f"ok ({told})" if isinstance(told, str) else "ok"
            self.passed += 1
        except Skipped as reason:
            verdict = f"skipped: {reason}"
            self.skipped += 1
        except Exception as problem:
            verdict = f"FAILED: {problem}"
            self.failed += 1
            if not isinstance(problem, Failed):
                traceback.print_exc()
        print(f"{time.monotonic() - began:5.1f} s  {name}: {verdict}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True, help="where target/agents-* are")
    parser.add_argument("--binary", type=Path, required=True, help="handfast")
    parser.add_argument("--have", default="", help="what was installed: basket,depot,stock,ledger,oap")
    parser.add_argument("--against", choices=("sink", "handfast"), help="only these steps")
    parser.add_argument("--only", help="only steps with this in their name")
    settings = parser.parse_args()
    settings.have = set(filter(None, settings.have.split(",")))
    settings.out = settings.target / "agents-work" / "run"
    shutil.rmtree(settings.out, ignore_errors=True)
    settings.out.mkdir(parents=True)
    settings.site = Site(settings.binary, settings.out / "site")

    run = Steps(settings.only)
    if settings.against != "handfast":
        comparison.steps(run, settings)
    if settings.against != "sink":
        product.steps(run, settings)
    print(f"agents suite: {run.passed} passed, {run.failed} failed, {run.skipped} skipped")
    sys.exit(1 if run.failed else 0)


if __name__ == "__main__":
    main()
