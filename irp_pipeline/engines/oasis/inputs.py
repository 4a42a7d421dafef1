"""The OED files of a job: the tables and values that an analysis requires."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from irp_pipeline.engines.columns import segment_checks
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.portfolio import (
    Locations,
    check_repeated,
)
from irp_pipeline.exposure.portfolio import portfolio_files
from irp_pipeline.vocabulary import Perspective

NOTHING_INSURED: Final = (
    "No location has an insured value of a coverage that is looked at, so there is nothing to lose: fill BuildingTIV, "
    "OtherTIV, ContentsTIV or BITIV, or leave the analysis out"
)
OED_FLAGS: Final = {"location.csv": "-x", "account.csv": "-y", "ri_info.csv": "-i", "ri_scope.csv": "-s"}


def check_tables(inputs: Path, perspectives: Collection[str]) -> None:
    """Refuse losses for which the portfolio has no terms."""
    if set(perspectives) != {Perspective.GUL} and not (inputs / "account.csv").is_file():
        raise OasisError("Insured and net losses need an account table, and the portfolio has none")
    if Perspective.RI in perspectives and not (
        (inputs / "ri_info.csv").is_file() and (inputs / "ri_scope.csv").is_file()
    ):
        raise OasisError("Net losses need the reinsurance tables ri_info and ri_scope, and the portfolio lacks them")


def check_segments(inputs: Path, analysis: Mapping[str, Any]) -> None:
    """Refuse segments by which the portfolio cannot be parted; the message has all reasons."""
    if problems := [message for _, message in segment_checks(analysis, portfolio_files(inputs))]:
        raise OasisError(f"The segments cannot be computed: {'; '.join(problems)}")


def check_locations(locations: Locations | None) -> None:
    """Refuse locations whose values contradict each other, and a table without any value."""
    if locations is not None:
        check_repeated(locations)
        if not any(locations.value(row) for row in locations.distinct()):
            raise OasisError(NOTHING_INSURED)
