"""What is said of two analyses or groups that are compared, besides their exposure."""

from typing import Any

import pytest

from irp_pipeline.helpers.comparison.differences import differences, in_words
from irp_pipeline.helpers.comparison.sides import Compared, Source

SETTINGS = {"gul_threshold": 0, "model_settings": {"event_set": "p", "years": 10}, "gul_output": True}


def source(name: str = "wind", *, currency: str = "EUR", portfolio: str = "property", **changed: Any) -> Source:
    provenance = {
        "engine": "Oasis LMF", "engine_version": "2.5.8", "model": "storm", "model_version": "1.2", "samples": 10,
        "periods": 200, "losses_by": "samples", "occurrence_hash": "0c" * 32, "settings": SETTINGS, "host": "a",
        "seconds": 17.2, "processes": 1, "exposure_hash": "e" * 64,
    }  # fmt: skip
    request = {"model_hash": "ab" * 32, "exposure_hash": "e" * 64, "settings_hash": "5" * 64, "data_folder": "x"}
    parameters = {"name": name, "portfolio": portfolio, "perspectives": ["GUL"], "model_options": {"gulmc": True}}
    for part in (request, parameters):
        part.update({key: changed.pop(key) for key in list(changed) if key in part})
    return Source(
        analysis=name,
        parameters=parameters,
        request=request,
        currency=currency,
        provenance=provenance | changed,
    )


def of(before: Source, after: Source) -> tuple[str, ...]:
    return in_words(differences(analysis(before), analysis(after)))


def analysis(one: Source) -> Compared:
    return Compared(name=one.analysis, is_group=False, sources=(one,))


def group(*members: Source) -> Compared:
    return Compared(name="all", is_group=True, sources=members)


class TestAnalyses:
    def test_the_same_on_another_machine_with_another_exposure_differs_in_nothing(self):
        assert of(source(), source(host="b", seconds=3, exposure_hash="f" * 64, processes=2, perspectives=["IL"])) == ()

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"engine": "Oasis LMF at an Oasis Platform"}, "engine Oasis LMF → Oasis LMF at an Oasis Platform"),
            ({"engine_version": "2.6.0"}, "engine version 2.5.8 → 2.6.0"),
            ({"model": "quake"}, "model storm → quake"),
            ({"model_version": "1.3"}, "model version 1.2 → 1.3"),
            ({"model_version": None}, "model version 1.2 → not stated"),
            ({"model_hash": "cd" * 32}, "content of the model abababababab… → cdcdcdcdcdcd…"),
            ({"samples": 20}, "samples 10 → 20"),
            ({"losses_by": "means"}, "losses by samples → means"),
            ({"periods": 500}, "simulated years 200 → 500"),
            ({"occurrence_hash": "0d" * 32}, "occurrence set 0c0c0c0c0c0c… → 0d0d0d0d0d0d…"),
            ({"currency": "USD"}, "currency EUR → USD"),
            ({"portfolio": "other"}, "portfolio property → other"),
            ({"exchange_rates": {"USD": 0.9}}, 'exchange rates not stated → {"USD": 0.9}'),
            ({"settings": {**SETTINGS, "gul_threshold": 5}}, "setting gul_threshold 0 → 5"),
            ({"model_options": {"gulmc": False}}, "setting model_options.gulmc true → false"),
        ],
    )
    def test_each_fact_is_said(self, changed, said):
        assert of(source(), source(**changed)) == (said,)

    def test_settings_of_output_change_no_loss(self):
        assert of(source(), source(settings={**SETTINGS, "gul_output": False, "il_summaries": [{"id": 1}]})) == ()

    def test_many_settings_are_counted_beside_the_figure_and_listed_among_the_differences(self):
        other = {"gul_threshold": 1, "model_settings": {"event_set": "h", "years": 20}}
        found = differences(analysis(source()), analysis(source(settings=other, samples=5)))
        assert in_words(found) == ("samples 10 → 5", "3 settings differ")
        assert {item.what for item in found} == {
            "samples", "setting gul_threshold", "setting model_settings.event_set", "setting model_settings.years",
        }  # fmt: skip

    def test_analyses_of_other_names_are_compared_as_they_are(self):
        assert of(source("base"), source("stress", samples=20)) == ("samples 10 → 20",)

    def test_an_analysis_whose_source_is_not_known_is_not_taken_for_equal(self):
        unknown = Compared(name="wind", is_group=False, sources=())
        assert "samples not stated → 10" in in_words(differences(unknown, analysis(source())))


class TestGroups:
    def test_what_all_members_share_is_said_once(self):
        before, after = ([source(name, samples=samples) for name in ("a", "b")] for samples in (10, 20))
        assert in_words(differences(group(*before), group(*after))) == ("samples 10 → 20",)

    def test_what_some_share_is_said_with_their_names(self):
        before = group(*(source(name) for name in "abcde"))
        after = group(source("a"), *(source(name, model_version="1.3") for name in "bcde"))
        assert in_words(differences(before, after)) == ("model version 1.2 → 1.3 (b, c, d and 1 more)",)

    def test_two_members_that_change_places_are_noticed(self):
        before, after = group(source("a"), source("b", samples=20)), group(source("a", samples=20), source("b"))
        assert in_words(differences(before, after)) == ("samples 10 → 20 (a)", "samples 20 → 10 (b)")

    def test_other_members(self):
        found = differences(group(source("a"), source("b")), group(source("a"), source("c"), source("d")))
        assert in_words(found) == ("members: no longer b; now also c, d",)
        assert in_words(differences(group(source("a")), group(source("a"), source("b")))) == ("members: now also b",)

    def test_a_group_that_was_an_analysis(self):
        found = in_words(differences(analysis(source("all")), group(source("all", samples=5))))
        assert found == ("kind an analysis → a group", "samples 10 → 5")
