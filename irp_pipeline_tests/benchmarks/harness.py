"""Measuring side by side: alternating rounds, a throw-away database, targets.

A machine's speed changes from one second to the next, so two figures are compared only if they come from the same
round: each candidate has a short turn in every round, in an order that changes, and a ratio is the median of the
ratios of all rounds.

Here belongs what every benchmark needs. What is measured belongs in ``bench_*.py``.
"""

import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
import sqlalchemy as sa
from psycopg2.extensions import connection as DriverConnection  # noqa: N812

from irp_pipeline import embedded, settings
from irp_pipeline.helpers.database import dispose_engine

_TURN_SECONDS = 0.006
_SELDOM = 5


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        rounds: how many rounds cheap calls are measured in.
        quick: a rough answer on less data, to see that a benchmark runs.
    """

    rounds: int = 200
    quick: bool = False

    def rounds_of_costly_calls(self) -> int:
        """Return how many rounds there are for calls that take a large part of a second each."""
        return max(self.rounds // 10, 5)


@dataclass(frozen=True)
class Target:
    """A figure and what it was to be.

    Attributes:
        what: what was measured.
        measured: the figure.
        limit: what it was to be at most, or at least if ``at_least``.
        unit: written after both, such as `` MB``.
    """

    what: str
    measured: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is what it was to be."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def row(self) -> tuple[str, str, str, str]:
        """Return what a table shows of it."""
        bound = "at least" if self.at_least else "at most"
        return (
            self.what,
            f"{self.measured:.2f}{self.unit}",
            f"{bound} {self.limit:g}{self.unit}",
            "met" if self.met else "MISSED",
        )


# --- measuring ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """What a candidate's calls took: seconds a call, by the number of the round."""

    elapsed: dict[int, float] = field(default_factory=dict)
    cpu: dict[int, float] = field(default_factory=dict)

    @property
    def elapsed_ms(self) -> float:
        """The median time of a call, in milliseconds."""
        return statistics.median(self.elapsed.values()) * 1000

    @property
    def cpu_ms(self) -> float:
        """The median processor time of a call in this process (not in the server), in milliseconds."""
        return statistics.median(self.cpu.values()) * 1000

    def ratio_to(self, other: "Timing") -> float:
        """Return how many times as long as ``other`` it takes: the median of the rounds in which both took part."""
        both = self.elapsed.keys() & other.elapsed.keys()
        return statistics.median(self.elapsed[number] / other.elapsed[number] for number in both)


def measure(
    candidates: Mapping[str, Callable[[], object]], rounds: int, seldom: Collection[str] = ()
) -> dict[str, Timing]:
    """Measure calls in alternating rounds.

    Args:
        candidates: what to call, by name.
        rounds: how often each has its turn.
        seldom: names of slow ones that take part in every fifth round only.

    Returns:
        The timing of each, by name.
    """
    timings = {name: Timing() for name in candidates}
    calls = {name: _calls_in_a_turn(call) for name, call in candidates.items()}
    order = list(candidates)
    shuffle = random.Random(0).shuffle
    for number in range(rounds):
        shuffle(order)
        for name in order:
            if name in seldom and number % _SELDOM:
                continue
            call = candidates[name]
            if calls[name] > 1:
                call()  # after somebody else's turn the processor's caches are theirs
            elapsed, cpu = _time(call, calls[name])
            timings[name].elapsed[number] = elapsed
            timings[name].cpu[number] = cpu
    return timings


def _calls_in_a_turn(call: Callable[[], object]) -> int:
    once, _ = _time(call, 1)  # which warms it up as well
    if once < 100 * _TURN_SECONDS:
        once, _ = _time(call, 5)
    return max(1, int(_TURN_SECONDS / once))


def _time(call: Callable[[], object], calls: int) -> tuple[float, float]:
    cpu = time.process_time()
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begin) / calls, (time.process_time() - cpu) / calls


@contextmanager
def one_processor() -> Iterator[None]:
    """Keep this process, and the server that it starts meanwhile, on one processor.

    A call of a tenth of a millisecond otherwise depends on where the system happened to put the two: waking another
    processor can take as long as the call.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- the database -------------------------------------------------------------------------------------------------


@contextmanager
def throw_away_database() -> Iterator[sa.URL]:
    """Make a database in which commits do not wait for the disk, and let this process and its children use it.

    It is on the server that the environment names, else on an embedded one in a temporary ``IRP_HOME``, and is
    dropped at the end.

    Yields:
        Its URL, which is also in ``IRP_DATABASE_URL``.
    """
    before = dict(os.environ)
    home = Path(tempfile.mkdtemp(prefix="irp-bench-"))
    os.environ["IRP_HOME"] = str(home)
    os.environ.pop("DB_SCHEMA", None)
    try:
        server = settings.database_url()
        url = server.set(database=f"irp_bench_{os.getpid()}")
        with closing(connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{url.database}"')
            try:
                cursor.execute(f'ALTER DATABASE "{url.database}" SET synchronous_commit = off')
                os.environ["IRP_DATABASE_URL"] = url.render_as_string(hide_password=False)
                dispose_engine()
                yield url
            finally:
                dispose_engine()
                cursor.execute(f'DROP DATABASE "{url.database}" WITH (FORCE)')
    finally:
        embedded.stop(home)
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(home, ignore_errors=True)


def connect(url: sa.URL) -> DriverConnection:
    """Return a connection of the driver's own, in autocommit."""
    connection = psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    connection.autocommit = True
    return connection


# --- showing ------------------------------------------------------------------------------------------------------


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, figures to the right."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    print(f"\n{title}")
    for line in (header, ["-" * width for width in widths], *rows):
        figures = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *figures]).rstrip(), flush=True)


def show_targets(targets: Sequence[Target]) -> None:
    """Print which targets are met."""
    show_table("Targets", ("what", "measured", "target", ""), [target.row() for target in targets])
