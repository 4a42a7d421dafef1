"""The pages find their rows by an index, however many there are; so do the views, if one asks for a cycle.

The plans are those of the statements that the pages send; see :mod:`irp_pipeline_tests.benchmarks.plans`. The benchmark
``pages`` asks the same of 2,000 cycles and a batch of 10,000 jobs, and measures.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from irp_pipeline.helpers.database import fetch_all
from irp_pipeline_tests.benchmarks.large_pages import large_pages
from irp_pipeline_tests.benchmarks.many_cycles import Amount, cycle_name, make_cycles, make_jobs, make_large_batch
from irp_pipeline_tests.benchmarks.plans import explained_statements
from irp_pipeline_tests.support.page_server import PageServer, page_server

AMOUNT = Amount(cycles=1500, stages=4, steps=2, runs=3)
CYCLE, BEFORE = cycle_name(AMOUNT.cycles), cycle_name(AMOUNT.cycles - 1)


@pytest.fixture(scope="module")
def pages(own_home: Path) -> dict[str, str]:
    make_cycles(AMOUNT)
    make_jobs(jobs=5, figures=20)
    make_large_batch(BEFORE, 2000, 300)
    return large_pages(CYCLE, BEFORE, make_large_batch(CYCLE, 2000, 300))


@pytest.fixture(scope="module")
def server(pages: dict[str, str]) -> Iterator[PageServer]:
    with page_server() as served:
        yield served


def test_no_page_reads_a_table_from_end_to_end(server: PageServer, pages: dict[str, str]) -> None:
    scanned = {}
    for what, page in pages.items():
        with explained_statements() as explained:
            answer = server.get(page)
        assert answer.status == 200, what
        assert explained, what
        scanned[what] = [(sent.sequential_scans(), sent.statement) for sent in explained if sent.sequential_scans()]
    assert {what: found for what, found in scanned.items() if found} == {}


def test_no_page_grows_with_what_there_is(server: PageServer, pages: dict[str, str]) -> None:
    answers = [server.get(page) for page in pages.values()]
    assert {answer.status for answer in answers} == {200}
    assert max(len(answer.text) for answer in answers) < 120_000


@pytest.mark.parametrize("view", ["artefacts", "cycle_progress", "jobs", "results", "steps"])
def test_a_view_finds_the_rows_of_a_cycle_by_an_index(pages: dict[str, str], view: str) -> None:
    with explained_statements() as explained:
        fetch_all(f"SELECT * FROM v_irp_{view} WHERE cycle_name = %s", (cycle_name(7),))
    assert [sent.sequential_scans() for sent in explained] == [[]]
