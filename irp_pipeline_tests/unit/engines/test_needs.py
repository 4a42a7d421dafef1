"""What an analysis needs of its portfolio, as its engine says."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline import engines
from irp_pipeline.columns import Folders
from irp_pipeline.engines.oasis import oasis
from irp_pipeline.engines.oasis.notes import notes
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.validation.needs import Needs

DETERMINISTIC = {"engine": "oasis_deterministic", "perspectives": ["GUL"]}
STOCHASTIC = {"engine": "oasis_stochastic", "perspectives": ["GUL"]}
LOCATION, ACCOUNT = OedTable.LOCATION, OedTable.ACCOUNT


def model(folder: Path, lookup: dict[str, Any] | None, **configuration: str) -> Path:
    """A model's folder with this lookup."""
    entries: dict[str, Any] = dict(configuration)
    if lookup is not None:
        (folder / "lookup.json").write_text(json.dumps(lookup))
        entries["lookup_config_json"] = "lookup.json"
    (folder / "oasislmf.json").write_text(json.dumps(entries))
    return folder


def lookup(*columns: list[str]) -> dict[str, Any]:
    steps = {f"step_{number}": {"type": "merge", "columns": names} for number, names in enumerate(columns)}
    return {"step_definition": steps, "strategy": list(steps)}


def needs_with(model: Path, perspectives: Sequence[str] = ("GUL",)) -> Needs:
    """What an analysis with a model needs, as its engine says where the model is."""
    analysis = STOCHASTIC | {"perspectives": perspectives, "model": model.name}
    return engines.needs(analysis, Folders(model.parent))


def test_a_deterministic_analysis_needs_no_coordinates() -> None:
    needs = engines.needs(DETERMINISTIC)
    assert set(needs.tables) == {LOCATION, ACCOUNT}
    assert (needs.location_columns, needs.unknown) == ({}, ())


@pytest.mark.parametrize(
    ("perspectives", "tables"),
    [
        (["GUL"], {LOCATION}),
        (["GUL", "IL"], {LOCATION, ACCOUNT}),
        (["RI"], {LOCATION, ACCOUNT, OedTable.RI_INFO, OedTable.RI_SCOPE}),
    ],
)
def test_the_losses_wanted_say_which_terms_are_needed(tmp_path, perspectives, tables) -> None:
    place = model(tmp_path, lookup(["locperilscovered"], ["latitude", "longitude"]))
    assert set(needs_with(place, perspectives).tables) == tables


def test_a_model_on_a_grid_needs_coordinates(tmp_path) -> None:
    needs = needs_with(model(tmp_path, lookup(["locperilscovered"], ["latitude", "longitude"])))
    assert set(needs.location_columns) == needs.filled_columns == {"Latitude", "Longitude"}
    assert needs.unknown == ()


def test_a_model_that_places_by_postcode_needs_that_and_no_coordinates(tmp_path) -> None:
    steps = lookup(["locperilscovered"], ["postalcode"], ["peril_id", "coverage_type", "constructioncode"])
    needs = needs_with(model(tmp_path, steps))
    assert set(needs.location_columns) == {"PostalCode", "ConstructionCode"}
    assert needs.filled_columns == frozenset()


def test_a_step_that_tries_several_ways_asks_for_none_of_them(tmp_path) -> None:
    steps = lookup(["locperilscovered"])
    steps["step_definition"] |= {
        "area": {"type": "combine", "parameters": {"strategy": ["grid", "postcode"]}},
        "grid": {"type": "rtree", "columns": ["latitude", "longitude"]},
        "postcode": {"type": "merge", "columns": ["postalcode"]},
    }
    steps["strategy"].append("area")
    assert needs_with(model(tmp_path, steps)).location_columns == {}


def test_a_model_of_accounts_alone_needs_no_location_table(tmp_path) -> None:
    needs = needs_with(model(tmp_path, lookup(["polperilscovered"])), ["IL"])
    assert set(needs.tables) == {ACCOUNT}


@pytest.mark.parametrize("entries", [{"lookup_module_path": "lookup.py"}, {}])
def test_a_lookup_of_its_own_does_not_say_what_it_needs(tmp_path, entries) -> None:
    needs = needs_with(model(tmp_path, None, **entries))
    assert (needs.tables, needs.location_columns) == ({}, {})
    assert "module of its own" in needs.unknown[0]


@pytest.mark.parametrize("broken", ["{", "[]", '{"strategy": ["a"]}', '{"strategy": 1, "step_definition": {}}'])
def test_a_lookup_that_cannot_be_read_is_not_guessed_at(tmp_path, broken) -> None:
    place = model(tmp_path, {})
    (place / "lookup.json").write_text(broken)
    assert needs_with(place).unknown


def test_an_engine_can_say_what_it_needs_and_one_that_does_not_is_not_asked_for_more(monkeypatch) -> None:
    assert engines.needs({"engine": "other", "perspectives": ["IL"]}).unknown
    needs = Needs(location_columns={"PostalCode": "why"})
    other = engines.EngineDeclaration("other", "", oasis, needs=lambda analysis, folders: needs)
    monkeypatch.setitem(engines.ENGINES._loaded(), "other", other)
    assert engines.needs({"engine": "other"}).location_columns == {"PostalCode": "why"}


def test_needs_of_several_analyses_add_up(tmp_path) -> None:
    grid = needs_with(model(tmp_path, lookup(["latitude", "longitude"])))
    both = grid | engines.needs(DETERMINISTIC | {"perspectives": ["GUL", "IL"]})
    assert both.perspectives == {"GUL", "IL"}
    assert set(both.tables) == {LOCATION, ACCOUNT}
    assert set(both.location_columns) == {"Latitude", "Longitude"}


def test_what_an_analysis_will_not_get_is_told_before_it_runs(tmp_path) -> None:
    model_settings = {
        "model_settings": {
            "event_occurrence_id": {
                "default": "lt",
                "options": [{"id": "lt", "max_periods": 1000}, {"id": "st", "max_periods": 100_000}],
            }
        }
    }
    (tmp_path / "model_settings.json").write_text(json.dumps(model_settings))
    place = model(tmp_path, None, model_settings_json="model_settings.json")
    analysis = STOCHASTIC | {"samples": 10, "return_periods": [100, 1000, 5000]}
    assert list(notes(analysis, place, None)) == [
        ("return_periods", "the model has 1,000 simulated years, so there is no loss for 5000 years")
    ]
    settings = tmp_path / "settings.json"
    chosen = {"number_of_samples": 99, "return_periods": [10], "model_settings": {"event_occurrence_id": "st"}}
    settings.write_text(json.dumps(chosen))
    assert list(notes(analysis, place, settings)) == [
        ("settings", "its number_of_samples 99 is not used: the column samples says 10"),
        ("settings", "its return_periods 10 is not used: the column return_periods says 100, 1000, 5000"),
    ]
    settings.write_text(json.dumps({"number_of_samples": 10, "return_periods": [5000, 100, 1000]}))
    assert [column for column, _ in notes(analysis, place, settings)] == ["return_periods"]
