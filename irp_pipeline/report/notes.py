"""Notes: what a reader should know although it is intended.

Here: what was skipped or changed on purpose, and what an engine's provenance means for the figures. Not here: what is
missing (:mod:`irp_pipeline.report.completeness`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from irp_pipeline.helpers.result import JobResult
from irp_pipeline.helpers.result.groups import beyond_by_name
from irp_pipeline.report.completeness import listed, skipped_analyses
from irp_pipeline.report.records import JobRecord

if TYPE_CHECKING:
    from irp_pipeline.workbook import Workbook


def notes(workbook: Workbook | None, finished: Sequence[JobResult], jobs: Sequence[JobRecord]) -> Iterator[str]:
    """Say what was skipped, changed or assumed, and what engines say about their figures."""
    if workbook is None or not jobs:
        return
    if skipped := skipped_analyses(workbook, jobs):
        why = {job.analysis: job.skipped_reason for job in jobs if job.skipped_reason}
        named = (f"{name} ({why[name]})" if name in why else name for name in skipped)
        yield f"Skipped on purpose: {', '.join(named)}"
    for grouping in workbook.groupings_in_order():
        if without := [item.name for item in workbook.analyses_in(grouping.name) if item.name in skipped]:
            yield f"The group {grouping.name} has no figures, since it needs {', '.join(without)}"
        elif grouping.period_pairing is not None:
            yield f"The group {grouping.name} adds years up by their number, which takes its models to be independent"
    names_of: defaultdict[str, list[str]] = defaultdict(list)
    for name, reason in beyond_by_name(workbook, {result.name: result for result in finished}).items():
        names_of[reason].append(name)
    yield from (f"{listed(names)}: {reason}" for reason, names in names_of.items())
    for result in finished:
        yield from (f"{result.name}: {note}" for note in _notes_of(result.provenance))
    for job in jobs:
        if job.override_reason and not job.skipped:
            yield f"{job.analysis} ran with other parameters than the workbook's: {job.override_reason}"


def _notes_of(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Say what the provenance of a job means for its figures."""
    unplaced = provenance.get("not_modelled")
    if isinstance(unplaced, Mapping) and unplaced:
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in unplaced.items())
        totals = provenance.get("not_modelled_totals") or {}
        amount = (
            f", {totals['locations']:,} locations with an insured value of {totals['tiv']:,.2f} not at all"
            if totals.get("locations")
            else ""
        )
        yield f"the model has no losses of some locations, perils or coverages ({reasons}){amount}"
    if provenance.get("losses_by") == "means":
        yield "figures by means, without samples: IL and RI apply the terms to mean losses"
    for what, words in (("not_defined", "not defined"), ("ignored", "not used")):
        for item in provenance.get(what) or ():
            yield f"{words}: {item}"
