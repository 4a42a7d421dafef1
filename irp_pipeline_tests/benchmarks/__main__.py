"""Runs the benchmarks: ``python -m irp_pipeline_tests.benchmarks [--only NAME] [--rounds N] [--quick]``.

Every module ``bench_NAME`` of this package has a function ``run(options)`` that prints its tables and returns its
targets. The exit status is 1 if a target was missed.
"""

import argparse
import importlib
from pathlib import Path

from irp_pipeline_tests.benchmarks.harness import Options, Target, show_targets


def main() -> int:
    """Run what the command line names and return the exit status."""
    names = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m irp_pipeline_tests.benchmarks", description=__doc__)
    parser.add_argument("--only", choices=names, action="append", metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=None, help=f"how often to measure (default {Options.rounds})")
    parser.add_argument("--quick", action="store_true", help="a rough answer on less data")
    arguments = parser.parse_args()

    rounds = arguments.rounds or (20 if arguments.quick else Options.rounds)
    options = Options(rounds=rounds, quick=arguments.quick)
    targets: list[Target] = []
    for name in arguments.only or names:
        targets += importlib.import_module(f"{__package__}.bench_{name}").run(options)
    show_targets(targets)
    return 0 if all(target.met for target in targets) else 1


if __name__ == "__main__":
    raise SystemExit(main())
