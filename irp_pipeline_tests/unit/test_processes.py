"""What tests start hears signals, whoever started the tests."""

import subprocess
import sys

# A shell starts what is in its background so, and nohup adds SIGHUP.
STARTED_IN_THE_BACKGROUND = """
import signal, subprocess, sys
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
from irp_pipeline_tests.support.processes import pass_on_signals
pass_on_signals()
signal.raise_signal(signal.SIGHUP)
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""
IGNORED = """
import signal
print([number.name for number in signal.Signals if signal.getsignal(number) is signal.SIG_IGN])
"""


def test_what_tests_start_in_the_background_hears_signals():
    command = [sys.executable, "-c", STARTED_IN_THE_BACKGROUND, IGNORED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "['SIGPIPE', 'SIGXFSZ']\n"  # which every Python ignores
