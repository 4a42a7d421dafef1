"""The columns of the sheet Analyses that the engines of Oasis LMF use, and the rules within a row."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, JsonValue

from irp_pipeline.columns import JSON, NUMBER, NUMBERS, TEXT, Column, Row, Text, no_repeats, path_problem
from irp_pipeline.columns.paths import option_problem, texts_in
from irp_pipeline.columns.values import refuse_unusable_characters
from irp_pipeline.engines.columns import (
    EventLosses,
    PeriodLosses,
    Queue,
    ReturnPeriods,
    Samples,
    Segments,
    with_usual_losses,
)


def _numbers_in(value: object) -> Iterator[float]:
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _numbers_in(item)
    elif isinstance(value, float):
        yield value


def _checked_model_options(options: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if not all(map(math.isfinite, _numbers_in(options))):
        raise ValueError("holds a number that is too large")
    for text in texts_in(options):
        refuse_unusable_characters(text)
    return options


def _checked_loss_factor(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"{value:g} must be above 0 and at most 1")
    return value


def _checked_loss_multiplier(value: float) -> float:
    if not 0 < value <= 100:
        raise ValueError(f"{value:g} must be above 0 and at most 100")
    return value


_ModelOptions = Annotated[
    dict[str, JsonValue],
    AfterValidator(_checked_model_options),
    Column(
        "Entries of `oasislmf.json`, written as there: for a model folder without that file, or to replace some "
        "of its entries, such as `reporting_currency` to convert amounts. Paths are relative to the model's folder, "
        "and may lead out of it as long as they stay in the data folder or the models folder, whichever the model is "
        "in. A deterministic analysis has no model; it uses `model_perils_covered`, `supported_oed_coverage_types`, "
        "`kernel_alloc_rule_il`, `kernel_alloc_rule_ri` and `do_disaggregation`.",
        JSON,
        width=30,
    ),
]


_CONVERSION: Final = frozenset({"currency_conversion_json", "reporting_currency"})
SettingsFile = Annotated[
    Text | None,
    Column(
        "An Oasis analysis settings file (JSON), for what this sheet has no column for, such as `model_settings`: "
        "a path in the data folder or else in the models folder. The columns of this sheet win over it.",
        TEXT,
        width=30,
    ),
]

LossMultiplier = Annotated[
    Annotated[float, AfterValidator(_checked_loss_multiplier)] | None,
    Column(
        "A factor on every ground-up loss of the model, before the terms of policies and reinsurance: above 0 and at "
        "most 100. Not possible where the settings apply the model's own loss factors (`pla`).",
        NUMBER,
        width=14,
        of_what_if=True,
        only_if_filled=True,
    ),
]
_CurrencyRates = Annotated[
    Text | None,
    Column(
        "A table of exchange rates (CSV with `cur_from`, `cur_to` and `roe`) with which amounts are converted to the "
        "currency of the workbook: a path in the data folder or else in the models folder.",
        TEXT,
        width=24,
        of_what_if=True,
        only_if_filled=True,
    ),
]

_SegmentMultipliers = Annotated[
    Text | None,
    Column(
        "A table of factors on the ground-up losses of segments (CSV with OED fields of the location table, and "
        "`factor`): a path in the data folder or else in the models folder. Locations in no segment of it keep their "
        "losses. Not possible for models with amplifications of their own.",
        TEXT,
        width=24,
        of_what_if=True,
        only_if_filled=True,
    ),
]


class DeterministicColumns(Row):
    """The columns of an analysis with given loss factors."""

    loss_factor: Annotated[
        tuple[Annotated[float, AfterValidator(_checked_loss_factor)], ...],
        AfterValidator(no_repeats),
        Column(
            "Damage as a share of the insured value, above 0 and at most 1. Several are computed one by one.",
            NUMBERS,
            needed=True,
        ),
    ] = ()
    model_options: _ModelOptions = Field(default_factory=dict)
    segments: Segments = ()
    queue: Queue = None

    @classmethod
    def broken_rules(cls, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().broken_rules(fields)
        yield from _option_problems(fields)


class StochasticColumns(Row):
    """The columns of an analysis with a catastrophe model."""

    model: Annotated[
        Text | None,
        Column(
            "Folder of an Oasis model, or its `oasislmf.json`: a path in the data folder or else in the models folder.",
            TEXT,
            needed=True,
            width=30,
        ),
    ] = None
    model_options: _ModelOptions = Field(default_factory=dict)
    settings: SettingsFile = None
    samples: Samples = None
    return_periods: ReturnPeriods = ()
    event_losses: EventLosses = False
    period_losses: PeriodLosses = False
    segments: Segments = ()
    queue: Queue = None
    currency_rates: _CurrencyRates = None
    loss_multiplier: LossMultiplier = None
    segment_multipliers: _SegmentMultipliers = None

    @classmethod
    def with_defaults(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        return with_usual_losses(super().with_defaults(fields))

    @classmethod
    def broken_rules(cls, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().broken_rules(fields)
        for column in ("model", "settings", "currency_rates", "segment_multipliers"):
            if (path := fields.get(column)) and (message := path_problem(path)):
                yield column, message
        yield from _option_problems(fields)
        twice = sorted(_CONVERSION & (fields.get("model_options") or {}).keys())
        if fields.get("currency_rates") and twice:
            yield "currency_rates", f"must be empty, since model_options has {' and '.join(twice)}; say it once"


def _option_problems(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    problems = (option_problem(text, fields.get("model")) for text in texts_in(fields.get("model_options")))
    if message := next(filter(None, problems), None):
        yield "model_options", message


EXAMPLES: Final[tuple[Mapping[str, str], ...]] = (
    {
        "name": "property_stress",
        "portfolio": "property",
        "engine": "oasis_deterministic",
        "loss_factor": "0.1; 0.5",
        "perspectives": "GUL; IL; RI",
    },
    {
        "name": "property_wind",
        "portfolio": "property",
        "engine": "oasis_stochastic",
        "model": "models/windstorm",
        "settings": "models/windstorm/analysis_settings.json",
        "samples": "10",
        "perspectives": "GUL; IL; RI",
        "return_periods": "10; 50; 100; 250",
        "segments": "CountryCode; CountryCode+OccupancyCode",
        "event_losses": "yes",
        "period_losses": "yes",
        "queue": "default",
    },
    {
        "name": "commercial_wind",
        "portfolio": "commercial",
        "engine": "oasis_stochastic",
        "model": "models/windstorm",
        "model_options": '{"lookup_num_processes": 1}',
        "samples": "10",
        "perspectives": "GUL; IL",
    },
)
"""Rows of the example workbook: the first is deterministic."""
