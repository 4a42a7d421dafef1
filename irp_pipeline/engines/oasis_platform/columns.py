"""The columns of the sheet Analyses that an analysis at an Oasis Platform uses."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from irp_pipeline.columns import TEXT, Column, Row, Text, path_problem
from irp_pipeline.engines.columns import EventLosses, PeriodLosses, ReturnPeriods, Samples, Segments, with_usual_losses
from irp_pipeline.engines.oasis.columns import SettingsFile


class PlatformColumns(Row):
    """The columns of an analysis with a model at an Oasis Platform."""

    settings: SettingsFile = None
    samples: Samples = None
    return_periods: ReturnPeriods = ()
    event_losses: EventLosses = False
    period_losses: PeriodLosses = False
    segments: Segments = ()
    model_supplier: Annotated[
        Text | None,
        Column(
            "Supplier of the model at the Oasis Platform, its `supplier_id` there, such as `OasisLMF`.",
            TEXT,
            needed=True,
            width=18,
        ),
    ] = None
    model_name: Annotated[
        Text | None,
        Column(
            "Name of the model at the Oasis Platform, its `model_id` there, such as `PiWind`.",
            TEXT,
            needed=True,
            width=18,
        ),
    ] = None
    model_version: Annotated[
        Text | None,
        Column(
            "Version of the model at the Oasis Platform, its `version_id` there. Another version has other losses.",
            TEXT,
            needed=True,
            width=14,
        ),
    ] = None

    @classmethod
    def with_defaults(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        return with_usual_losses(super().with_defaults(fields))

    @classmethod
    def broken_rules(cls, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().broken_rules(fields)
        if (path := fields.get("settings")) and (message := path_problem(path)):
            yield "settings", message
