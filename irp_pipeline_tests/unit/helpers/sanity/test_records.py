"""What jobs say about their figures, findings in order and as plain data, and the page of the documentation."""

from pathlib import Path
from typing import Any

import pytest

from irp_pipeline.helpers.comparison import Source
from irp_pipeline.helpers.sanity.findings import Check, LossFinding, Severity, in_order
from irp_pipeline.helpers.sanity.subjects import facts_of_job

PAGE = Path(__file__).parents[4] / "docs" / "sanity.md"


def source(**provenance: Any) -> Source:
    return Source(analysis="wind", parameters={"portfolio": "homes"}, request={}, currency="GBP", provenance=provenance)


def finding(severity: Severity, check: Check = Check.ORDER, subject: str = "wind", size: str = "") -> LossFinding:
    return LossFinding(
        severity=severity, check=check, subject=subject, what="it is above", size=size, remedy="Look at it"
    )


def test_a_provenance_is_read():
    facts = facts_of_job(
        source(
            il_may_exceed_gul=False,
            losses_by="means",
            weighted_periods=True,
            not_modelled_tiv={"portfolio": 100, "by_reason": {"outside": 30.5, "no such peril": 10}},
        )
    )
    assert (facts.analysis, facts.portfolio, facts.il_may_exceed_gul) == ("wind", "homes", False)
    assert (facts.is_by_means, facts.is_weighted, facts.covered) == (True, True, 59.5)


@pytest.mark.parametrize(
    "stated",
    [
        None,
        "all",
        {},
        {"portfolio": "100"},
        {"portfolio": -1.0},
        {"portfolio": True},
        {"portfolio": 100.0, "by_reason": {"outside": None}},
        {"portfolio": 100.0, "by_reason": {"outside": float("nan")}},
    ],
)
def test_what_an_engine_states_in_another_form_is_not_known(stated: Any):
    facts = facts_of_job(source(not_modelled_tiv=stated, il_may_exceed_gul="no"))
    assert (facts.tiv, dict(facts.tiv_by_reason), facts.covered, facts.il_may_exceed_gul) == (None, {}, None, None)


def test_more_than_there_is_cannot_be_left_out():
    assert facts_of_job(source(not_modelled_tiv={"portfolio": 100, "by_reason": {"outside": 101}})).covered == 0


def test_the_worst_come_first_and_equals_as_they_were_found():
    found = [
        finding(Severity.NOTE),
        finding(Severity.WARNING, Check.CHANGE),
        finding(Severity.WARNING, subject="b"),
        finding(Severity.WARNING, subject="a"),
        finding(Severity.ERROR, Check.CHANGE),
    ]
    assert in_order(found) == (found[4], found[2], found[3], found[1], found[0])


def test_a_finding_is_a_line_and_plain_data():
    one = finding(Severity.ERROR, size="5.00 GBP")
    assert str(one) == "ERROR: wind: it is above (5.00 GBP). Look at it"
    assert str(finding(Severity.NOTE)) == "NOTE: wind: it is above. Look at it"
    assert LossFinding.from_json(one.as_json()) == one


def test_the_documentation_has_every_check():
    page = PAGE.read_text(encoding="utf-8")
    assert [check for check in Check if f"| `{check}` |" not in page] == []
