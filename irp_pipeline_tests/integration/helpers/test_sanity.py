"""The check of all saved figures of a batch: analyses and groups, beside the cycle before."""

import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline import settings
from irp_pipeline.helpers.cycle import Cycle, find_cycle
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.helpers.result import get_results, recorded_figures, save_results
from irp_pipeline.helpers.sanity import (
    Check,
    CheckedLosses,
    PolicyDates,
    Severity,
    check_losses,
    checked_content,
    content_of_figures,
)
from irp_pipeline_tests.support.made_up_cycle import finish_jobs, make_batch, workbook

ALL = {"property_wind", "commercial_wind", "property_stress", "wind", "everything"}
OF_2023 = PolicyDates(first=dt.date(2023, 1, 1), last=dt.date(2023, 12, 31))
SEGMENTS = {name: ["CountryCode"] for name in ("property_wind", "commercial_wind")}


pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def batches(own_home: Path, test_schema: str) -> Iterator[tuple[int, int]]:
    """The batches of Q4-2023, whose losses were half of those of Q1-2024 by an older model, and of that."""
    yield make("Q4-2023", "2023-12-31", scale=0.5, model_version="1.1"), make("Q1-2024", "2024-03-31")
    for cycle_name in ("Q4-2023", "Q1-2024"):
        shutil.rmtree(settings.cycle_dir(test_schema, cycle_name))
    execute_command("DELETE FROM irp_cycle")


def make(cycle_name: str, exposure_date: str, scale: float = 1.0, **provenance: Any) -> int:
    batch_id = make_batch(cycle_name, workbook(exposure_date=exposure_date, segments=SEGMENTS))
    finish_jobs(batch_id, scale=scale, il_may_exceed_gul=False, **provenance)
    save_results(batch_id)
    return batch_id


def later() -> Cycle:
    cycle = find_cycle("Q1-2024")
    assert cycle is not None
    return cycle


def check(batch_id: int, largest_change: float = 0.25, **dates: PolicyDates | None) -> CheckedLosses:
    return check_losses(later(), batch_id, largest_change=largest_change, least_covered=0.9, dates=dates)


def found(checked: CheckedLosses, which: Check) -> set[tuple[Severity, str, str]]:
    return {(one.severity, one.subject, one.size) for one in checked.findings if one.check is which}


def test_analyses_and_groups_are_compared_with_the_cycle_before(batches):
    checked = check(batches[1])
    assert checked.compared_with == "Q4-2023"
    assert checked.figures == len(get_results(batches[1], segments=True))
    assert checked.count(Severity.ERROR) == 0
    assert found(checked, Check.CHANGE) == {(Severity.WARNING, name, "+100.0 %") for name in ALL}
    [what] = [one.what for one in checked.findings if (one.subject, one.check) == ("everything", Check.CHANGE)]
    assert [f"AAL {perspective} " in what for perspective in ("GUL", "IL", "RI")] == [True] * 3
    assert what.endswith("Besides the exposure, these differ: model version 1.1 → 1.2")
    assert found(check(batches[1], largest_change=1.01), Check.CHANGE) == set()


def test_groups_whose_policies_are_not_in_force_on_the_exposure_date_are_named(batches):
    assert found(check(batches[1], property=OF_2023, commercial=None), Check.EXPOSURE_DATE) == {
        (Severity.WARNING, name, "") for name in ("wind", "everything")
    }
    assert found(check(batches[1]), Check.EXPOSURE_DATE) == set()


@pytest.mark.parametrize(
    ("where", "check_name", "subject"),
    [
        ("analysis_name = 'wind' AND perspective = 'RI' AND metric = 'AAL'", Check.ORDER, "wind"),
        ("analysis_name = 'everything' AND metric = 'OEP' AND return_period = 10", Check.CURVE, "everything"),
        ("analysis_name = 'wind' AND metric = 'AEP' AND return_period = 5 AND segment <> '{}'", Check.CURVE, "wind"),
    ],
)
def test_a_wrong_figure_of_a_group_is_an_error(batches, where, check_name, subject):
    execute_command(
        f"UPDATE irp_analysis_result SET loss = loss * 1e6 WHERE batch_id = %s AND {where}",
        (batches[1],),
    )
    errors = [one for one in check(batches[1]).findings if one.severity is Severity.ERROR]
    assert {one.subject for one in errors} == {subject}
    assert check_name in {one.check for one in errors}
    assert "Look at its members" in errors[0].remedy


def test_what_the_findings_depend_on_is_known_by_its_content(batches):
    before, after = batches
    content = checked_content(later(), after)
    assert content["cycle before"] == "Q4-2023"
    figures = recorded_figures(get_results(after))
    assert content_of_figures(figures) == content_of_figures(reversed(figures)) == check(after).content

    def change(batch_id: int, statement: str) -> set[str]:
        """Change something, and return the names of what is different then."""
        nonlocal content
        execute_command(statement, (batch_id,))
        was, content = content, checked_content(later(), after)
        return {name for name in content if content[name] != was[name]}

    of_segment = "analysis_name = 'wind' AND segment_by <> '{}' AND metric = 'AAL'"
    assert change(after, f"UPDATE irp_analysis_result SET loss = loss + 1 WHERE batch_id = %s AND {of_segment}") == {
        "figures"
    }
    assert check(after).content == content_of_figures(figures)  # those of segments are left out
    assert change(before, "UPDATE irp_analysis_result SET loss = loss + 1 WHERE batch_id = %s AND metric = 'OEP'") == {
        "figures of the cycle before"
    }
    may = "jsonb_set(result_data, '{provenance,il_may_exceed_gul}', 'true')"
    assert change(after, f"UPDATE irp_job SET result_data = {may} WHERE batch_id = %s") == {"facts of the jobs"}


def test_a_batch_without_figures_has_no_findings(batches):
    execute_command("DELETE FROM irp_analysis_result WHERE batch_id = %s", (batches[1],))
    checked = check(batches[1])
    assert (checked.findings, checked.figures, checked.compared_with) == ((), 0, None)
    assert checked_content(later(), batches[1]) == {}
