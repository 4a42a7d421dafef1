"""The worker that starts by itself on one machine: ``python -m irp_pipeline.workers DESCRIPTOR``.

It takes all jobs of this installation, and ends when idle. There is at most one for each database in an ``IRP_HOME``:
it inherits the locked file that says so. It looks once more after letting go of the lock, since a process that has just
queued a job may have found the lock taken.
"""

import logging
import os
import signal
import sys
from typing import Final

from irp_pipeline import settings
from irp_pipeline.engines.waking import worker_lock
from irp_pipeline.errors import IrpError
from irp_pipeline.files import lock_file
from irp_pipeline.queue.tasks import queue_prefix, queues_with_work
from irp_pipeline.workers.secrecy import hide_environment
from irp_pipeline.workers.worker import Worker

IDLE_SECONDS: Final = 5.0


def main(descriptor: int) -> None:
    """Work until nothing waits.

    Args:
        descriptor: that of the locked file.
    """
    lock: int | None = descriptor
    os.set_inheritable(descriptor, False)
    while lock is not None:
        worker = Worker(settings.job_slots(), idle_seconds=IDLE_SECONDS)
        signal.signal(signal.SIGTERM, lambda *_, worker=worker: worker.stop())
        worker.run()
        os.close(lock)
        if worker.is_stopped or not queues_with_work(queue_prefix()):
            return
        lock = lock_file(worker_lock())


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    hide_environment()
    try:
        main(int(sys.argv[1]))
    except IrpError as error:
        sys.exit(str(error))
