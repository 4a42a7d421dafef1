"""What the program of a job does besides its work: it ends with its worker, and reports what it is doing."""

import os
import signal
import threading
import time
from pathlib import Path

from irp_pipeline.files import write_atomically

_POLL_SECONDS = 0.2


def end_with_worker() -> None:
    """In the program of a job: kill its process group when its worker is gone."""
    worker = os.getppid()

    def watch() -> None:
        while os.getppid() == worker:
            time.sleep(_POLL_SECONDS)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="irp-end-with-worker", daemon=True).start()


def say(folder: Path, doing: str) -> None:
    """In the program of a job: report in one line what it is doing."""
    write_atomically(folder / "doing.txt", doing)
