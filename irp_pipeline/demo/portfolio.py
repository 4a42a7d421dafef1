"""Made-up portfolios of homes and of businesses in two quarters, with their accounts, reinsurance and workbook."""

import csv
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Any, Final

from irp_pipeline.cycle_files import workbook_of
from irp_pipeline.demo.windstorm import FIRST_RELEASE, PERIL, SECOND_RELEASE, Release
from irp_pipeline.files import write_atomically
from irp_pipeline.vocabulary import OedTable, Perspective


class Quarter(StrEnum):
    """The quarters of the sample, by the names of their cycles."""

    FIRST = "Q1-2024"
    SECOND = "Q2-2024"

    @property
    def release(self) -> Release:
        """The release of the model by which its losses are computed."""
        return FIRST_RELEASE if self is Quarter.FIRST else SECOND_RELEASE

    @property
    def locations(self) -> int:
        """The number of locations."""
        gone_and_new = ((changes.gone, changes.new) for changes in _CHANGES.values())
        return LOCATIONS + (0 if self is Quarter.FIRST else sum(new - gone for gone, new in gone_and_new))


@dataclass(frozen=True)
class _Portfolio:
    """The properties of a portfolio; amounts in GBP.

    Attributes:
        number: its PortNumber.
        locations: the number of locations.
        locations_per_account: how many locations share a policy.
        median_value: the median value of a building.
        spread: of the buildings' values, as the standard deviation of their logarithm.
        constructions: OED construction codes with their shares.
        occupancies: OED occupancy codes with their shares.
        interruption: possible values of business interruption, as shares of the building's value.
        deductible: for each location and loss.
        attachment: of a policy, for each loss.
        limit: of a policy, for each loss.
        quota_share: the reinsurers' share of each loss.
        retention: of the loss by one event, after the quota share.
        cover: the most that the reinsurers pay of the loss by one event above the retention.
    """

    number: str
    locations: int
    locations_per_account: int
    median_value: float
    spread: float
    constructions: Sequence[tuple[int, float]]
    occupancies: Sequence[tuple[int, float]]
    interruption: Sequence[float]
    deductible: int
    attachment: int
    limit: int
    quota_share: float
    retention: int
    cover: int


# OED construction codes: unknown 5000, wood frame 5050, masonry 5100, reinforced concrete 5150, steel 5200.
# OED occupancy codes: residential 1050, retail 1101, offices 1117, industry 1150.
_PORTFOLIOS: Final = {
    "residential": _Portfolio(
        number="1",
        locations=600,
        locations_per_account=20,
        median_value=280_000,
        spread=0.45,
        constructions=((5000, 0.1), (5050, 0.15), (5100, 0.75)),
        occupancies=((1050, 1.0),),
        interruption=(0,),
        deductible=1_000,
        attachment=0,
        limit=2_500_000,
        quota_share=0.2,
        retention=300_000,
        cover=2_500_000,
    ),
    "commercial": _Portfolio(
        number="2",
        locations=400,
        locations_per_account=8,
        median_value=900_000,
        spread=0.8,
        constructions=((5000, 0.1), (5100, 0.35), (5150, 0.35), (5200, 0.2)),
        occupancies=((1101, 0.3), (1117, 0.4), (1150, 0.3)),
        interruption=(0, 0.2, 0.4),
        deductible=2_500,
        attachment=10_000,
        limit=5_000_000,
        quota_share=0.3,
        retention=750_000,
        cover=6_000_000,
    ),
}
LOCATIONS_OF: Final[Mapping[str, int]] = {name: portfolio.locations for name, portfolio in _PORTFOLIOS.items()}
"""The portfolios, and how many locations each has."""
LOCATIONS: Final = sum(LOCATIONS_OF.values())


@dataclass(frozen=True)
class _Changes:
    """What is different in a portfolio in the second quarter; amounts in GBP.

    Attributes:
        gone: how many locations are not insured any more.
        new: how many are new, in accounts of their own.
        inflation: by which share the others are insured for more.
        deductible: of the locations of every third account, for each location and loss.
        retention: of the catastrophe cover.
        loss_multiplier: for the cost of repairs after a storm, with which losses are multiplied; None for none.
    """

    gone: int
    new: int
    inflation: float
    deductible: int
    retention: int
    loss_multiplier: float | None


_CHANGES: Final = {
    "residential": _Changes(gone=24, new=40, inflation=0.03, deductible=2_500, retention=300_000, loss_multiplier=None),
    "commercial": _Changes(
        gone=20, new=16, inflation=0.05, deductible=2_500, retention=1_000_000, loss_multiplier=1.05
    ),
}

GROUP: Final = "all_wind"
"""The group of all analyses with the model."""

_SEGMENTS: Final = ["OccupancyCode"]
_INSURED_VALUES: Final = ("BuildingTIV", "OtherTIV", "ContentsTIV", "BITIV")
_SEED: Final = 20240101
# Made-up centres: latitude and longitude in degrees, and the share of the locations around each.
_TOWNS: Final = (
    ("north", 57.2, -3.2, 0.05),
    ("glen", 55.9, -3.8, 0.10),
    ("moor", 53.6, -2.1, 0.25),
    ("middle", 52.5, -1.7, 0.20),
    ("west", 51.6, -3.2, 0.10),
    ("south", 51.5, -0.3, 0.30),
)


def write_portfolios(folder: Path, quarter: Quarter = Quarter.FIRST) -> Path:
    """Write the tables and the workbook of a quarter into a folder.

    Args:
        folder: the folder; existing files are replaced.
        quarter: the quarter.

    Returns:
        The workbook.

    Raises:
        WorkbookError: the workbook cannot be written.
        OSError: the folder cannot be written to.
    """
    from irp_pipeline.workbook import Workbook, write_workbook

    for name in _PORTFOLIOS:
        for table, records in sample_tables(name, quarter).items():
            write_atomically(folder / name / f"{table}.csv", _as_csv(records))
    workbook = Workbook.model_validate(
        {
            "metadata": {"currency": "GBP", "description": "Synthetic sample"}
            | ({"exposure_date": "2024-06-30"} if quarter is Quarter.SECOND else {}),
            "portfolios": [
                {"name": name, "source": "csv", **{table: f"{name}/{table}.csv" for table in OedTable}}
                for name in _PORTFOLIOS
            ],
            "analyses": [
                *(_wind_analysis(name, quarter) for name in _PORTFOLIOS),
                {
                    "name": "commercial_stress",
                    "portfolio": "commercial",
                    "engine": "oasis_deterministic",
                    "loss_factor": [0.01, 0.1],
                    "perspectives": list(Perspective),
                    "segments": _SEGMENTS,
                },
            ],
            "groupings": [{"name": GROUP, "members": [f"{name}_wind" for name in _PORTFOLIOS]}],
        }
    )
    return write_workbook(workbook_of(folder), workbook, overwrite=True)


def _wind_analysis(portfolio: str, quarter: Quarter) -> dict[str, Any]:
    multiplier = _CHANGES[portfolio].loss_multiplier if quarter is Quarter.SECOND else None
    return {
        "name": f"{portfolio}_wind",
        "portfolio": portfolio,
        "engine": "oasis_stochastic",
        "model": quarter.release.folder,
        "samples": 10,
        "perspectives": list(Perspective),
        "segments": _SEGMENTS,
        **({"loss_multiplier": multiplier} if multiplier is not None else {}),
    }


def sample_tables(name: str, quarter: Quarter = Quarter.FIRST) -> dict[str, list[dict[str, Any]]]:
    """Return the records of the four OED tables of a sample portfolio; KeyError if no portfolio has this name."""
    portfolio = _PORTFOLIOS[name]
    # Seeded on purpose: the sample must be the same everywhere.
    chance = random.Random(f"{_SEED} {name}")  # noqa: S311
    locations = [_location(number, portfolio, chance) for number in range(1, portfolio.locations + 1)]
    if quarter is Quarter.SECOND:
        changes = _CHANGES[name]
        locations = _a_quarter_later(locations, portfolio, changes, chance)
        portfolio = replace(portfolio, retention=changes.retention)
    accounts = sorted({location["AccNumber"] for location in locations})
    return {
        OedTable.LOCATION: locations,
        OedTable.ACCOUNT: [_account(account, portfolio) for account in accounts],
        OedTable.RI_INFO: [_quota_share(portfolio), _excess_of_loss(portfolio)],
        OedTable.RI_SCOPE: [
            {"ReinsNumber": reinsurance, "PortNumber": portfolio.number, "CededPercent": ceded}
            for reinsurance, ceded in ((1, portfolio.quota_share), (2, 1))
        ],
    }


def _a_quarter_later(
    locations: Sequence[dict[str, Any]], portfolio: _Portfolio, changes: _Changes, chance: random.Random
) -> list[dict[str, Any]]:
    """Return the locations of the second quarter. Those that stay keep their numbers, and so their draws of damage."""
    gone = set(chance.sample(range(len(locations)), changes.gone))
    with_deductible = set(sorted({location["AccNumber"] for location in locations})[::3])
    stay = [
        location
        | {value: round(location[value] * (1 + changes.inflation), 2) for value in _INSURED_VALUES}
        | ({"LocDed6All": changes.deductible} if location["AccNumber"] in with_deductible else {})
        for place, location in enumerate(locations)
        if place not in gone
    ]
    first = portfolio.locations + 1
    return [*stay, *(_location(number, portfolio, chance) for number in range(first, first + changes.new))]


def _location(number: int, portfolio: _Portfolio, chance: random.Random) -> dict[str, Any]:
    towns, shares = zip(*((town, town[3]) for town in _TOWNS), strict=True)
    town, latitude, longitude, _ = chance.choices(towns, shares)[0]
    building = round(portfolio.median_value * chance.lognormvariate(0, portfolio.spread), -3)
    return {
        "PortNumber": portfolio.number,
        "AccNumber": f"A{portfolio.number}{(number - 1) // portfolio.locations_per_account + 1:03d}",
        "LocNumber": f"L{portfolio.number}{number:05d}",
        "LocName": f"Synthetic {town} {number}",
        "CountryCode": "GB",
        "Latitude": round(latitude + chance.gauss(0, 0.2), 5),
        "Longitude": round(longitude + chance.gauss(0, 0.3), 5),
        "LocPerilsCovered": PERIL,
        "LocCurrency": "GBP",
        "ConstructionCode": _pick(portfolio.constructions, chance),
        "OccupancyCode": _pick(portfolio.occupancies, chance),
        "BuildingTIV": building,
        "OtherTIV": 0,
        "ContentsTIV": round(building * chance.uniform(0.1, 0.5), -3),
        "BITIV": round(building * chance.choice(portfolio.interruption), -3),
        "LocPeril": PERIL,
        "LocDedCode6All": 0,
        "LocDedType6All": 0,
        "LocDed6All": portfolio.deductible,
    }


def _account(account: str, portfolio: _Portfolio) -> dict[str, Any]:
    return {
        "PortNumber": portfolio.number,
        "AccNumber": account,
        "AccCurrency": "GBP",
        "PolNumber": f"P{account[1:]}",
        "PolPerilsCovered": PERIL,
        "PolInceptionDate": "2024-01-01",
        "PolExpiryDate": "2024-12-31",
        "LayerNumber": 1,
        "LayerAttachment": portfolio.attachment,
        "LayerLimit": portfolio.limit,
        "LayerParticipation": 1,
    }


def _quota_share(portfolio: _Portfolio) -> dict[str, Any]:
    return _reinsurance(1, "quota share", "QS") | {"CededPercent": portfolio.quota_share}


def _excess_of_loss(portfolio: _Portfolio) -> dict[str, Any]:
    """Return a catastrophe cover of what remains after the quota share."""
    return _reinsurance(2, "catastrophe excess of loss", "CXL") | {
        "OccLimit": portfolio.cover,
        "OccAttachment": portfolio.retention,
    }


def _reinsurance(number: int, name: str, kind: str) -> dict[str, Any]:
    return {
        "ReinsNumber": number,
        "ReinsLayerNumber": 1,
        "ReinsName": f"Synthetic {name}",
        "ReinsPeril": PERIL,
        "ReinsInceptionDate": "2024-01-01",
        "ReinsExpiryDate": "2024-12-31",
        "CededPercent": 1,
        "RiskLimit": 0,
        "RiskAttachment": 0,
        "OccLimit": 0,
        "OccAttachment": 0,
        "PlacedPercent": 1,
        "ReinsCurrency": "GBP",
        "InuringPriority": number,
        "ReinsType": kind,
        "RiskLevel": "SEL",
    }


def _pick(shares: Sequence[tuple[int, float]], chance: random.Random) -> int:
    return chance.choices([code for code, _ in shares], [share for _, share in shares])[0]


def _as_csv(records: Iterable[Mapping[str, Any]]) -> str:
    rows = list(records)
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
