"""The lease of a tracked run, and the thread that renews it during the block of work."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from irp_pipeline.helpers.db_context import carry_schema
from irp_pipeline.helpers.step_work import StepError, TrackedRun
from irp_pipeline.postgres.running import execute_command
from irp_pipeline.process import HostProcess

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 10
"""How often a tracked run renews its lease."""

_HEARTBEATS_TO_END: Final = 3
"""How long an interrupted block may take to end before it is interrupted again."""

Unwanted = Callable[[], str | None]
"""Says why work is no longer wanted, such as that its run was cancelled; None as long as it is."""


@dataclass(frozen=True)
class Lease:
    token: str
    schema: str
    owner: HostProcess


class Heartbeat:
    """A thread that renews the lease of a run until it is stopped or the lease is lost.

    At each heartbeat it also asks whether the work is still wanted. If not, it interrupts the block of work, as Ctrl-C
    does, and keeps the lease until the block has ended. If the block goes on for some heartbeats, it is interrupted
    again, since code that it calls may have swallowed the interrupt.

    Attributes:
        interrupted: why the block was interrupted, or None.
    """

    def __init__(self, run: TrackedRun, lease: Lease, unwanted: Unwanted | None = None) -> None:
        self.interrupted: str | None = None
        self._run = run
        self._lease = lease
        self._unwanted = unwanted
        self._patience = 0
        self._stopped = threading.Event()
        self._ending = threading.Lock()
        self._thread_of_work = threading.get_ident()
        self._thread = threading.Thread(target=carry_schema(self._beat), name=f"irp-heartbeat-{run.id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop; from now on the thread interrupts nothing."""
        with self._ending:
            self._stopped.set()

    def _beat(self) -> None:
        pause: float = HEARTBEAT_SECONDS
        while not self._stopped.wait(pause):
            try:
                renewed = execute_command(
                    """
                    UPDATE irp_step_run SET heartbeat_ts = clock_timestamp()
                     WHERE id = %s AND status = 'ACTIVE' AND lease_token = %s
                    """,
                    (self._run.id, self._lease.token),
                )
            except Exception as error:  # only the end of the lease may end this thread
                _log.warning("The lease of step run %s could not be renewed, trying again: %s", self._run.id, error)
                pause = 1
                continue
            pause = HEARTBEAT_SECONDS
            if not renewed and not self._stopped.is_set():
                self._run.lease_lost = True
                _log.error("%s", lease_lost(self._run))
                return
            if self._unwanted is not None:
                if self._patience == 0:
                    self._interrupt_if(self._unwanted)
                else:
                    self._patience -= 1

    def _interrupt_if(self, unwanted: Unwanted) -> None:
        try:
            reason = unwanted()
        except Exception as error:
            _log.warning("Step run %s cannot learn whether it is still wanted, asking again: %s", self._run.id, error)
            return
        if reason is None:
            return
        with self._ending:
            if self._stopped.is_set():
                return
            self.interrupted = reason
            self._patience = _HEARTBEATS_TO_END
            _log.warning("Step run %s is interrupted: %s", self._run.id, reason)
            signal.pthread_kill(self._thread_of_work, signal.SIGINT)


def lease_lost(run: TrackedRun) -> StepError:
    return StepError(
        f"Run {run.run_num} of the step with the id {run.step_id} lost its lease: it was taken for dead and its place "
        "given to another run, or it was ended or deleted by hand. Its result is not recorded"
    )
