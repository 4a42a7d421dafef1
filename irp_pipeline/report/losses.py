"""The findings about the losses in a report: reading what their step recorded.

Not here: the checks (:mod:`irp_pipeline.helpers.sanity`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from irp_pipeline.helpers.result import RecordedFigure
from irp_pipeline.helpers.sanity import RecordedCheck, Severity, content_of_figures, find_recorded_check

OUTDATED: Final = "The losses were checked before these figures were saved: run the cycle again"
_MOST_ERRORS: Final = 10


def collect_losses(cycle_id: int, saved: Sequence[RecordedFigure]) -> tuple[RecordedCheck | None, str | None]:
    """Return what the check of a cycle's losses found, or why that is not about the figures of a report.

    Args:
        cycle_id: the cycle.
        saved: the figures of the report.
    """
    found = find_recorded_check(cycle_id)
    if found is None or not saved:
        return None, None
    return (found, None) if found.content == content_of_figures(saved) else (None, OUTDATED)


def errors_in_words(losses: RecordedCheck | None) -> Iterator[str]:
    """Say what cannot be right about the losses: the first errors, and how many more there are."""
    if losses is None:
        return
    errors = losses.of(Severity.ERROR)[:_MOST_ERRORS]
    yield from map(str, errors)
    if losses.errors > len(errors):
        yield f"{losses.errors - len(errors)} more errors in the losses"
