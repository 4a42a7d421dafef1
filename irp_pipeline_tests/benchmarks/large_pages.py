"""The pages that have most to find: among very many cycles, and in a batch with very many jobs."""

from irp_pipeline.helpers.database import execute_scalar
from irp_pipeline.pages.addresses import Addresses


def large_pages(cycle: str, before: str, batch_id: int) -> dict[str, str]:
    """Return the addresses of pages by what they show.

    Args:
        cycle: a cycle with a large batch (:func:`~irp_pipeline_tests.benchmarks.many_cycles.make_large_batch`).
        before: another one with a large batch.
        batch_id: the batch of the first.
    """
    at = Addresses()
    middle_cycle, middle_job = (
        execute_scalar(f"SELECT (min(id) + max(id)) / 2 FROM {table}") for table in ("irp_cycle", "irp_job")
    )
    job_id = execute_scalar("SELECT max(id) FROM irp_job WHERE batch_id = %s", (batch_id,))
    subject = "large 000001"
    return {
        "cycles": at.cycles(),
        "cycles, further down": at.cycles(after=middle_cycle),
        "cycles that are archived": at.cycles(status="ARCHIVED"),
        "cycles by name": at.cycles(name=cycle[:-1]),
        "cycles by a name that none has": at.cycles(name="none-"),
        "a cycle": at.cycle(cycle),
        "a batch": at.batch(batch_id),
        "a batch, further down": at.batch(batch_id, after=middle_job),
        "a batch, jobs by a status that none has": at.batch(batch_id, status="FAILED"),
        "a batch, jobs of one analysis": at.batch(batch_id, analysis="000777"),
        "a batch, jobs of an analysis that is not there": at.batch(batch_id, analysis="none"),
        "a job": at.job(job_id),
        "a log": at.log(job_id),
        "results": at.results(cycle),
        "results, further down": at.results(cycle, after="large 000500"),
        "results of one analysis": at.results(cycle, analysis=subject),
        "results by segment": at.results(cycle, analysis=subject, by="CountryCode"),
        "results by segment, further down": at.results(cycle, analysis=subject, by="OccupancyCode", after="000200"),
        "comparison": at.comparison(cycle),
        "comparison with a chosen cycle": at.comparison(cycle, **{"with": before}),
        "comparison, further down": at.comparison(cycle, **{"with": before, "after": "large 000500"}),
    }
