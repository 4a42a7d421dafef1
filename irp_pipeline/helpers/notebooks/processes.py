"""The processes of a notebook: how they are marked, and how none is left behind."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from irp_pipeline.engines.folders import processes_of
from irp_pipeline.process import MARK_OF_NOTEBOOK

STARTER: Final = "IRP_NOTEBOOK_STARTER"
"""Set in the environment of a kernel: the process id of what started it."""


def kill_the_others(folder: Path) -> None:
    """Kill all processes of a notebook but this one, and return when they are gone.

    Args:
        folder: where it is executed, which their environment names.
    """
    import psutil

    own = os.getpid()
    while left := [process for process in processes_of(folder, MARK_OF_NOTEBOOK) if process.pid != own]:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)
