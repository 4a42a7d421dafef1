"""Commands as people start them, in processes of their own, and what tests wait for meanwhile."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[2]
SECONDS = 300
"""How long a test waits for one thing: less than the limit of a test, so that it can tell what it waited for."""


def pass_on_signals() -> None:
    """Let the processes that tests start hear every signal, also where this one was started to ignore some.

    In the background of a shell without job control SIGINT and SIGQUIT are ignored, and under ``nohup`` SIGHUP; what is
    started inherits that, and tests that send such a signal would wait in vain. A handler is not inherited.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


class Process:
    """A command with a process group of its own, and what it wrote."""

    def __init__(
        self,
        *command: str,
        folder: Path = REPOSITORY,
        options: Sequence[str] = (),
        in_background: bool = False,
        wrapper: Sequence[str] = (),
        **variables: Any,
    ) -> None:
        """Start a module.

        Args:
            command: the module and its arguments.
            folder: the working folder.
            options: those of Python.
            in_background: start it as ``&`` does in a script, with SIGINT ignored.
            wrapper: what comes before it, such as the words that run it on a machine of :mod:`machines`.
            variables: what is set in its environment.
        """
        shell = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh") if in_background else ()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [*wrapper, *shell, sys.executable, *options, "-m", *command],
            env={**os.environ, **variables},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def is_running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def send_to_all(self, number: signal.Signals) -> None:
        """Send a signal to it and to all that it started, as a terminal does with Ctrl-C."""
        os.killpg(self._process.pid, number)

    def end(self) -> int:
        """Wait for its end; return the exit status."""
        try:
            return self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It does not end. It said: {self.output}") from None

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()


@contextmanager
def started(
    *command: str,
    folder: Path = REPOSITORY,
    options: Sequence[str] = (),
    in_background: bool = False,
    wrapper: Sequence[str] = (),
    **variables: Any,
) -> Iterator[Process]:
    process = Process(
        *command, folder=folder, options=options, in_background=in_background, wrapper=wrapper, **variables
    )
    with closing(process):
        yield process


def children_of(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
