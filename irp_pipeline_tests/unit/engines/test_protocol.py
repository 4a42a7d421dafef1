"""What an engine returns, whichever it is: a result, or the first fault with its place."""

import copy
import math
from typing import Any

import pytest

from irp_pipeline.engines import check_result

GOOD: dict[str, Any] = {
    "figures": [
        {"perspective": "GUL", "metric": "AAL", "return_period": None, "loss_factor": None, "loss": 12.5},
        {"perspective": "RI", "metric": "STD_DEV", "return_period": None, "loss_factor": None, "loss": None},
        {"perspective": "IL", "metric": "OEP", "return_period": 250, "loss_factor": None, "loss": 7},
        {"perspective": "GUL", "metric": "LOSS", "return_period": None, "loss_factor": 0.1, "loss": 0},
    ],
    "currency": "EUR",
    "files": {"losses": {"path": "results/losses.parquet", "sha256": "ab" * 32, "bytes": 0}},
    "provenance": {"engine": "of the tests", "seconds": 1.5},
}
FILE = GOOD["files"]["losses"]


def changed(path: list[Any], value: Any) -> Any:
    """The good result with one thing changed."""
    result = copy.deepcopy(GOOD)
    place: Any = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def test_a_result_has_no_fault():
    assert check_result(GOOD) is None
    of_segments = [
        GOOD["figures"][0] | {"segment_by": ["LOB"], "segment": [line], "loss": loss}
        for line, loss in (("home", 2.5), ("shop", 10.0))
    ]
    segments = [{"values": ["home"], "tiv": None, "locations": 3, "summaries": {"GUL": 1}}]
    reported = {"by": ["LOB"], "segments": segments, "period_losses": {"GUL": "gul_S2_plt_sample"}}
    result = GOOD | {"figures": [*GOOD["figures"], *of_segments], "segments": [reported]}
    assert check_result(result) is None
    twice = result | {"figures": [*result["figures"], of_segments[1]]}
    assert check_result(twice) == "figures[6] is of the same as figures[5]"
    assert check_result({name: GOOD[name] for name in ("figures", "currency")}) is None


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (["figures"], None, "figures is not a list but missing"),
        (["figures"], {}, "figures is not a list but a dict"),
        (["figures"], [], "figures is empty"),
        (["figures", 1], "x", "figures[1] is not an object but a str"),
        (["figures", 1, "perspective"], "FIRE", "figures[1].perspective is FIRE, not one of GUL, IL, RI"),
        (["figures", 1, "perspective"], ["GUL"], "figures[1].perspective is ['GUL'], not one of"),
        (["figures", 0, "metric"], None, "figures[0].metric is None, not one of"),
        (["figures", 0, "loss"], None, "figures[0].loss is None, not a finite number"),
        (["figures", 0, "loss"], "12", "figures[0].loss is 12, not a finite number"),
        (["figures", 0, "loss"], True, "figures[0].loss is True, not a finite number"),
        (["figures", 0, "loss"], math.nan, "figures[0].loss is nan"),
        (["figures", 1, "loss"], math.nan, "figures[1].loss is nan"),
        (["figures", 0, "loss"], -1.0, "figures[0].loss is -1.0, below zero"),
        (["figures", 1], GOOD["figures"][0] | {"loss": 5}, "figures[1] is of the same as figures[0]"),
        (["figures", 2, "return_period"], None, "figures[2].return_period is None, but its metric is OEP"),
        (["figures", 0, "return_period"], 10, "figures[0].return_period is 10, but its metric is AAL"),
        (["figures", 3, "loss_factor"], None, "figures[3].loss_factor is None, but its metric is LOSS"),
        (["figures", 2, "loss_factor"], 0.5, "figures[2].loss_factor is 0.5, but its metric is OEP"),
        (["figures", 0, "loss"], 10**400, "figures[0].loss is 1000"),
        (["figures", 2, "return_period"], -5, "figures[2].return_period is -5"),
        (["figures", 2, "return_period"], "250", "figures[2].return_period is 250"),
        (["figures", 3, "loss_factor"], 5.0, "figures[3].loss_factor is 5.0"),
        (["figures", 0, "segment_by"], "LOB", "figures[0].segment_by is LOB, not a list of texts"),
        (["figures", 0, "segment"], [5], "figures[0].segment is [5], not a list of texts"),
        (
            ["figures", 0, "segment_by"],
            ["LOB"],
            "figures[0].segment has another number of values",
        ),
        (["segments"], {}, "segments is not a list but a dict"),
        (["segments"], [{"by": ["LOB"]}], "segments[0] cannot be read: KeyError('segments')"),
        (["segments"], [{"by": "LOB", "segments": [], "period_losses": {}}], "segments[0] cannot be read: TypeError("),
        (["currency"], "euro", "currency is euro, not three capital letters"),
        (["currency"], None, "currency is None, not three capital letters"),
        (["provenance"], [], "provenance is not an object but a list"),
        (["provenance", "model"], "a\0", "provenance.model holds a NUL character"),
        (["provenance", "a\ud800"], 1, "has a key that holds half of a surrogate pair"),
        (["provenance", "x"], math.inf, "provenance.x is inf"),
        (["files"], [], "files is not an object but a list"),
        (["files", "losses"], "results/losses.parquet", "files.losses is not an object but a str"),
        (["files", "losses"], FILE | {"path": "/etc/passwd"}, "files.losses.path is /etc/passwd, not a path inside"),
        (["files", "losses"], FILE | {"path": "a/../../b"}, "files.losses.path is a/../../b, not a path inside"),
        (["files", "losses"], FILE | {"path": ""}, "files.losses.path is , not a path inside"),
        (["files", "losses"], FILE | {"sha256": "AB" * 32}, "files.losses.sha256 is ABAB"),
        (["files", "losses"], FILE | {"bytes": -1}, "files.losses.bytes is -1"),
        (["files", "losses"], FILE | {"bytes": True}, "files.losses.bytes is True"),
        (["files", ""], FILE, "cannot be the name of a file"),
    ],
)
def test_a_fault_is_told_with_its_place(path, value, fault):
    found = check_result(changed(path, value))
    assert found is not None
    assert fault in found
    assert "\n" not in found
    assert len(found) < 500


def test_losses_in_another_currency_than_was_asked_for_are_a_fault():
    assert check_result(GOOD, currency="EUR") is None
    assert check_result(GOOD, currency="GBP") == "currency is EUR, but the losses were asked for in GBP"


@pytest.mark.parametrize("result", [None, [], "text", 5, {}])
def test_what_is_no_result_at_all_is_a_fault(result):
    assert check_result(result) is not None


def test_a_result_that_is_nested_too_deep_is_a_fault():
    deep: Any = {}
    for _ in range(5000):
        deep = [deep]
    assert "is nested deeper than 100 levels" in str(check_result(changed(["provenance", "x"], deep)))
