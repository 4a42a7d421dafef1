"""A process that runs notebook steps at the same time, to be killed: ``python -m … NOTEBOOK CYCLE_ID CYCLE KEY …``."""

import sys
import threading
from pathlib import Path

from irp_pipeline.helpers.db_context import carry_schema
from irp_pipeline_tests.support.notebooks import run_step, step_of


def main(notebook: str, cycle_id: str, cycle_name: str, *keys: str) -> None:
    """Run a notebook as several steps; each gets its key as the parameter ``mark``."""
    threads = [
        threading.Thread(
            target=carry_schema(run_step),
            args=(step_of(Path(notebook), key, parameters={"mark": key}), int(cycle_id), cycle_name),
        )
        for key in keys
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
