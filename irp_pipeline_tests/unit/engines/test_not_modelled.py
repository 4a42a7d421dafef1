"""What a model has no losses of: how much insured value, and why."""

from pathlib import Path

import pytest

from irp_pipeline.engines.oasis.portfolio import Locations, read_locations
from irp_pipeline.engines.oasis.run_facts import NOTHING_SAID, as_not_modelled, read_modelled


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    """Three locations, the first in two rows; buildings and contents."""
    (tmp_path / "location.csv").write_text(
        "PortNumber,AccNumber,LocNumber,LocPerilsCovered,BuildingTIV,ContentsTIV\n"
        "1,A,1,WTC,100,50\n1,A,1,WTC,100,50\n1,A,2,WTC,200,0\n1,A,3,WTC,400,80\n"
    )
    found = read_locations(tmp_path)
    assert found is not None
    return found


def test_insured_value_without_losses_has_the_first_reason_of_each_coverage(locations: Locations):
    entries = [
        (0, "WTC", 3, "fail", "no vulnerability"),  # of the first location's contents
        (0, "WTC", 3, "fail", "another reason"),
        (0, "WTC", 1, "fail", "a peril of a coverage that has losses from another"),
        (2, "WTC", None, "fail", "outside"),
    ]
    found = as_not_modelled(entries, locations, [2, 3], 1, coverages={(0, 1)}, rates={})
    assert found.values() == {
        "portfolio": 830.0,
        "by_reason": {NOTHING_SAID: 480.0, "outside": 200.0, "no vulnerability": 50.0},
    }


def test_insured_value_is_in_the_currency_of_the_losses(locations: Locations):
    found = as_not_modelled([], locations, [3], 0, coverages={(0, 1), (0, 3), (2, 1)}, rates={0: 2.0, 3: 0.5})
    assert found.values() == {"portfolio": 2 * 150 + 200 + 0.5 * 480, "by_reason": {NOTHING_SAID: 240.0}}


def test_a_portfolio_that_is_modelled_has_no_reasons(locations: Locations):
    everything = {(row, coverage) for row in locations.distinct() for coverage in (1, 3)}
    assert as_not_modelled([], locations, [], 0, coverages=everything, rates={}).values()["by_reason"] == {}


def test_a_coverage_with_losses_from_some_peril_is_modelled(locations: Locations, tmp_path: Path):
    (tmp_path / "gul_summary_map.csv").write_text(
        "PortNumber,AccNumber,LocNumber,loc_idx,coverage_id,coverage_type_id,tiv\n"
        "1,A,1,0,1,1,100\n1,A,1,0,1,1,100\n1,A,1,1,2,3,50\n1,A,2,2,3,1,200\n"
    )
    found = read_modelled(tmp_path, locations)
    assert found.values == {0: 150.0, 2: 200.0}
    assert found.coverages == {(0, 1), (0, 3), (2, 1)}
