"""Check of how much insured value the models cover, by the reasons that jobs recorded. Pure: it works on records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

from irp_pipeline.helpers.sanity.findings import Check, LossFinding, Severity
from irp_pipeline.helpers.sanity.subjects import Subject

_MOST_REASONS: Final = 5
_MOST_NAMES: Final = 10


def check_covered(subjects: Iterable[Subject], least_covered: float) -> Iterator[LossFinding]:
    """Yield a finding for each analysis of which the model does not cover all insured value.

    A coverage of a location counts as covered if there are losses of it from any peril. Groups are not named again.

    Args:
        subjects: analyses and groups.
        least_covered: the least share of the insured value that needs no warning. Less of it is a warning, any
            insured value that is not covered is a note.
    """
    unknown = []
    for subject in subjects:
        if subject.is_group or not subject.jobs:
            continue
        [job] = subject.jobs
        if job.tiv is None:
            unknown.append(subject.name)
            continue
        left_out = math.fsum(job.tiv_by_reason.values())
        if not left_out:
            continue
        share = left_out / job.tiv if job.tiv else 1.0
        is_little = 1 - share < least_covered
        reasons = sorted(job.tiv_by_reason.items(), key=lambda item: (-item[1], item[0]))
        listed = "; ".join(f"{reason}: {amount:,.2f}" for reason, amount in reasons[:_MOST_REASONS])
        more = f"; {len(reasons) - _MOST_REASONS} more reasons" if len(reasons) > _MOST_REASONS else ""
        least = f" (least_covered is {least_covered:.4g})" if is_little else ""
        yield LossFinding(
            severity=Severity.WARNING if is_little else Severity.NOTE,
            check=Check.NOT_COVERED,
            subject=subject.name,
            what=f"the model has no losses of {left_out:,.2f} {subject.currency} of the insured value of "
            f"{job.portfolio}, {job.tiv:,.2f}{least}. {listed}{more}",
            size=f"{100 * share:.1f} %",
            remedy="The table not_modelled.parquet in the results of its job has each location: correct it, or say "
            "where this insured value is analysed",
        )
    if unknown:
        more = f" and {len(unknown) - _MOST_NAMES} more" if len(unknown) > _MOST_NAMES else ""
        yield LossFinding(
            severity=Severity.NOTE,
            check=Check.NOT_COVERED,
            subject=", ".join(unknown[:_MOST_NAMES]) + more,
            what="their jobs do not say how much insured value the model covers",
            size=f"{len(unknown):,} {'analysis' if len(unknown) == 1 else 'analyses'}",
            remedy="Compare the insured value with that of the portfolio yourself",
        )
