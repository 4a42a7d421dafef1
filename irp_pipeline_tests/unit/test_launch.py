"""Ctrl-C while a cycle runs here and now: said to Dagster first, then heard by whatever is running."""

import signal

from irp_pipeline_tests.support.processes import Process, started
from irp_pipeline_tests.support.waiting import wait_until

# A step that waits in a system call, where no other thread's signal is noticed.
WAITING = """
import time
from irp_pipeline.launch import _cancelling_on_interrupt

class Instance:
    def report_run_canceling(self, run):
        print("canceling", flush=True)

with _cancelling_on_interrupt(Instance(), None):
    try:
        print("waiting", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def said(process: Process, word: str) -> bool:
    return word in process.output.split()


def test_ctrl_c_is_recorded_and_then_interrupts_what_waits():
    with started("timeit", "-n1", "-r1", WAITING) as process:  # which runs a program given as text
        wait_until(lambda: said(process, "waiting"), "it waits", process)
        process.send(signal.SIGINT)
        assert process.end() == 0, process.output
        assert process.output.split()[:3] == ["waiting", "canceling", "interrupted"]
