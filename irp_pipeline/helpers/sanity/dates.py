"""Check that the members of a group are of one exposure date, as far as it can be told. Pure: it works on records.

A cycle has one exposure date, that of its workbook, and OED has none for a portfolio. What can be told is whether
policies of each portfolio are in force on that day; without an exposure date, whether there is any day on which
policies of all of them are.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping

from irp_pipeline.helpers.sanity.findings import Check, LossFinding, Severity
from irp_pipeline.helpers.sanity.policies import PolicyDates
from irp_pipeline.helpers.sanity.subjects import Subject


def check_exposure_dates(
    subjects: Iterable[Subject], exposure_date: dt.date | None, dates: Mapping[str, PolicyDates | None]
) -> Iterator[LossFinding]:
    """Yield a warning for each group whose members cannot be of one exposure date.

    Args:
        subjects: analyses and groups.
        exposure_date: of the workbook; None if it states none.
        dates: the dates of the policies of each portfolio; None, or no entry, if they are not stated.
    """
    for subject in subjects:
        portfolios = dict.fromkeys(job.portfolio for job in subject.jobs)
        stated = {name: found for name in portfolios if (found := dates.get(name)) is not None}
        if not subject.is_group or not stated:
            continue
        if exposure_date is not None:
            wrong = {name: of for name, of in stated.items() if not of.first <= exposure_date <= of.last}
            if wrong:
                yield _finding(
                    subject, f"no policy of {_listed(wrong)} is in force on {exposure_date}, its exposure date"
                )
        elif max(of.first for of in stated.values()) > min(of.last for of in stated.values()):
            yield _finding(
                subject, f"its portfolios have no day in common on which policies are in force: {_listed(stated)}"
            )


def _finding(subject: Subject, what: str) -> LossFinding:
    return LossFinding(
        severity=Severity.WARNING,
        check=Check.EXPOSURE_DATE,
        subject=subject.name,
        what=f"its members seem to be of different exposure dates: {what}",
        remedy="Look at the sources of these portfolios, and at exposure_date on the sheet Metadata",
    )


def _listed(dates: Mapping[str, PolicyDates]) -> str:
    return ", ".join(f"{name} ({of})" for name, of in dates.items())
