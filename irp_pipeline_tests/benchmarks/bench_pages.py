"""What a page costs after years of use: among 2,000 cycles, and in a batch of 10,000 jobs with half a million figures.

Each page is asked for over HTTP. The server is asked for its plans as well: none may read a table from end to end.
"""

import statistics
import time
from collections.abc import Iterator
from typing import Final

from irp_pipeline.helpers.database import init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline_tests.benchmarks.harness import Options, Target, show_table, throw_away_database
from irp_pipeline_tests.benchmarks.large_pages import large_pages
from irp_pipeline_tests.benchmarks.many_cycles import Amount, cycle_name, make_cycles, make_jobs, make_large_batch
from irp_pipeline_tests.benchmarks.plans import explained_statements
from irp_pipeline_tests.support.page_server import PageServer, page_server

SECONDS: Final = 1.0
MANY: Final = Amount(cycles=2_000, stages=6, steps=5, runs=5)
JOBS: Final = 10_000
SEGMENTS: Final = 3_000
QUICK_JOBS: Final = 1_000
_SCHEMA: Final = "many"


def run(options: Options) -> list[Target]:
    """Measure each page, print the table and return the targets."""
    jobs = QUICK_JOBS if options.quick else JOBS
    with throw_away_database(), schema_context(_SCHEMA):
        begin = time.perf_counter()
        init_database()
        make_cycles(MANY)
        make_jobs(jobs=5, figures=20)
        last, before = cycle_name(MANY.cycles), cycle_name(MANY.cycles - 1)
        make_large_batch(before, jobs, SEGMENTS)
        batch_id = make_large_batch(last, jobs, SEGMENTS)
        print(f"{MANY}, two batches of {jobs:,} jobs, made in {time.perf_counter() - begin:.0f} s", flush=True)
        pages = large_pages(last, before, batch_id)
        with page_server() as server:
            taken = {what: _seconds(server, page, options) for what, page in pages.items()}
            sizes = {what: len(server.get(page).text) for what, page in pages.items()}
            scanned = [f"{table}: {page}" for page in pages.values() for table in _sequential_scans(server, page)]
    print("\n".join(scanned))
    show_table(
        "Milliseconds a page",
        ("", "median", "slowest", "kB"),
        [
            (what, f"{statistics.median(of) * 1000:.0f}", f"{max(of) * 1000:.0f}", f"{sizes[what] / 1000:.0f}")
            for what, of in taken.items()
        ],
    )
    return [
        Target("the slowest page", max(max(of) for of in taken.values()), SECONDS, " s"),
        Target("tables read from end to end by pages", len(scanned), 0),
    ]


def _seconds(server: PageServer, page: str, options: Options) -> list[float]:
    """Return how long the page took each time, the first time among them."""
    taken = []
    for _ in range(options.rounds_of_costly_calls()):
        begin = time.perf_counter()
        answer = server.get(page)
        taken.append(time.perf_counter() - begin)
        assert answer.status == 200, answer.text
    return taken


def _sequential_scans(server: PageServer, page: str) -> Iterator[str]:
    with explained_statements() as explained:
        server.get(page)
    return (table for sent in explained for table in sent.sequential_scans())
