"""Parameters of a job that come by an override: the rules, types and sentences of the workbook."""

import json
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline.workbook import Analysis, WorkbookError, check_override, example_workbook

DETERMINISTIC, STOCHASTIC, _ = (
    {"currency": "GBP", **analysis.model_dump(mode="json")} for analysis in example_workbook().analyses
)


def refused(parameters: dict[str, Any], changes: dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(WorkbookError) as told:
        check_override(parameters, changes, **options)
    return [str(problem) for problem in told.value.problems]


def test_parameters_that_nobody_changes_stay_as_they_are() -> None:
    assert check_override(DETERMINISTIC, {}) == DETERMINISTIC
    assert check_override(STOCHASTIC, {}) == STOCHASTIC
    assert check_override(STOCHASTIC, STOCHASTIC) == STOCHASTIC


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_factor": [5.0]}, "loss_factor: 5 must be above 0 and at most 1"),
        ({"loss_factor": [0.5, 0.5]}, "loss_factor: 0.5 is listed more than once"),
        ({"loss_factor": []}, "loss_factor: is empty, but oasis_deterministic needs it"),
        ({"loss_factor": None}, "loss_factor: is empty, but oasis_deterministic needs it"),
        ({"loss_factor": [True]}, "loss_factor: must be a number, not True; check the format of the cell"),
        ({"loss_factor": [[0.5]]}, "loss_factor: must be a list of single values"),
        ({"loss_factor": {"a": 1}}, "loss_factor: must not be an object in braces"),
        (
            {"loss_factor": "0,5"},
            "loss_factor: the comma in '0,5' can be read in two ways; write '50; 100; 250' and '0.5'",
        ),
        ({"loss_factor": 10**400}, "loss_factor: holds a number that is too large"),
        ({"los_factor": [0.5]}, "los_factor: there is no parameter 'los_factor'; did you mean 'loss_factor'?"),
        ({"perspectives": ["XL"]}, "perspectives: 'XL' is unknown; it can be GUL, IL, RI"),
        (
            {"engine": "oasis"},
            "engine: 'oasis' is unknown; it can be oasis_deterministic, oasis_stochastic, oasis_platform",
        ),
        (
            {"model_options": {"model_perils_cover": ["WTC"]}},
            (
                "model_options: deterministic losses do not use model_perils_cover; they use do_disaggregation, "
                "fmpy_low_memory, kernel_alloc_rule_il, kernel_alloc_rule_ri, model_perils_covered, "
                "supported_oed_coverage_types"
            ),
        ),
        (
            {"samples": 10},
            "samples: must be empty: oasis_deterministic does not use it, only oasis_stochastic and oasis_platform do",
        ),
        (
            {"name": "other"},
            "name: cannot be changed for a job: it is 'property_stress' in the workbook; change that instead",
        ),
        (
            {"portfolio": "commercial"},
            "portfolio: cannot be changed for a job: it is 'property' in the workbook; change that instead",
        ),
        (
            {"currency": "USD"},
            "currency: cannot be changed for a job: it is 'GBP' in the workbook; change that instead",
        ),
    ],
)
def test_what_the_workbook_refuses_is_refused_with_its_sentence(changes, message) -> None:
    assert refused(DETERMINISTIC, changes) == [message]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1.5}, "samples: '1.5' is not a whole number"),
        ({"samples": -1}, "samples: -1 must be between 0 and 100,000"),
        ({"samples": True}, "samples: must be a number, not True; check the format of the cell"),
        ({"samples": [10]}, "samples: must be one value, not a list"),
        ({"samples": ""}, "samples: is empty, but oasis_stochastic needs it"),
        ({"return_periods": [2.5]}, "return_periods: '2.5' is not a whole number"),
        ({"event_losses": "maybe"}, "event_losses: 'maybe' is neither yes nor no"),
        ({"event_losses": 2}, "event_losses: '2' is neither yes nor no"),
        (
            {"model": "../elsewhere"},
            (
                "model: '../elsewhere' is outside of the data folder; give the path inside it, such as "
                "property/location.csv"
            ),
        ),
        ({"model_options": ["a"]}, "model_options: must be one value, not a list"),
        (
            {"model_options": {"lookup_config": ["/etc"]}},
            (
                "model_options: '/etc' is outside of the data folder or models folder that the model is in; paths here "
                "are relative to the model's folder"
            ),
        ),
    ],
)
def test_what_the_workbook_refuses_of_a_model_is_refused_likewise(changes, message) -> None:
    assert refused(STOCHASTIC, changes) == [message]


def test_everything_wrong_is_told_at_once() -> None:
    assert [line.partition(":")[0] for line in refused(STOCHASTIC, {"samples": -1, "sample": 3, "name": "x"})] == [
        "sample",
        "name",
        "samples",
    ]


@pytest.mark.parametrize(
    ("name", "given", "stored"),
    [
        ("samples", "20", 20),
        ("samples", 20.0, 20),
        ("samples", 0, 0),
        ("return_periods", "100; 50", [50, 100]),
        ("return_periods", [100, "50"], [50, 100]),
        ("return_periods", 100, [100]),
        ("event_losses", "no", False),
        ("event_losses", 1, True),
        ("event_losses", False, False),
        ("perspectives", "gul; il", ["GUL", "IL"]),
        ("perspectives", ["gul"], ["GUL"]),
        ("model_options", '{"gulmc": true}', {"gulmc": True}),
        ("model_options", {"gulmc": True}, {"gulmc": True}),
        ("settings", None, None),
    ],
)
def test_a_value_is_read_as_its_cell_would_be(name, given, stored) -> None:
    assert check_override(STOCHASTIC, {name: given}) == STOCHASTIC | {name: stored}
    row = {key: value for key, value in STOCHASTIC.items() if key != "currency"}
    assert Analysis.model_validate(row | {name: given}).model_dump(mode="json")[name] == stored


def test_another_engine_needs_its_own_parameters() -> None:
    changes = {"engine": "oasis_stochastic", "model": "m", "samples": 10}
    assert refused(DETERMINISTIC, changes) == [
        "loss_factor: must be empty: oasis_stochastic does not use it, only oasis_deterministic does"
    ]
    changed = check_override(DETERMINISTIC, {**changes, "loss_factor": None})
    assert changed["samples"] == 10
    assert changed["return_periods"][-1] == 1000


def test_files_and_tables_are_looked_for_where_the_folders_are_known(tmp_path: Path) -> None:
    portfolio = example_workbook().portfolio("commercial")
    wanted = {"perspectives": ["GUL", "RI"], "model": "gone", "settings": None}
    lines = refused(STOCHASTIC, wanted, portfolio=portfolio, data_dir=tmp_path)
    assert lines == [
        "perspectives: RI needs the terms of reinsurance, but portfolio 'commercial' has no reinsurance tables",
        f"model: there is no 'gone' in {tmp_path}",
    ]


def test_what_is_stored_is_plain_json() -> None:
    changed = check_override(STOCHASTIC, {"perspectives": "GUL", "return_periods": "7"})
    assert json.loads(json.dumps(changed)) == changed
