"""How long ``irp --help`` keeps people waiting, and that it loads nothing heavy."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from irp_pipeline_tests.benchmarks.harness import Options, Target, measure, show_table

LIMIT_SECONDS: Final = 0.5
HEAVY: Final = ("pandas", "dagster", "oasislmf", "plotly")


def run(options: Options) -> list[Target]:
    """Measure ``irp --help`` beside a Python that does nothing, print both and return the targets."""
    irp = Path(sys.executable).with_name("irp")
    timings = measure(
        {
            "python -c pass": lambda: _run(sys.executable, "-c", "pass"),
            "irp --help": lambda: _run(irp, "--help"),
        },
        options.rounds_of_costly_calls(),
    )
    show_table(
        "Milliseconds to start and end (medians)",
        ("", "milliseconds"),
        [(name, f"{timing.elapsed_ms:.0f}") for name, timing in timings.items()],
    )
    return [
        Target("irp --help", timings["irp --help"].elapsed_ms / 1000, LIMIT_SECONDS, " s"),
        Target("heavy packages that irp --help loads", len(_heavy_packages_loaded()), 0),
    ]


def _run(*command: str | Path) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def _heavy_packages_loaded() -> list[str]:
    program = f"""
import sys
from irp_pipeline.cli import main
sys.argv = ["irp", "--help"]
try:
    main()
finally:
    print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return finished.stderr.split()
