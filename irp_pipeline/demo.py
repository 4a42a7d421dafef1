"""A made-up portfolio and its workbook, to see a cycle at work. Synthetic: no location, account or value is real.

Everything comes from one fixed seed, so the same version of this module always writes the same files.
"""

import csv
import random
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

from irp_pipeline.files import write_atomically

LOCATIONS: Final = 1000
PORTFOLIO: Final = "property"
_SEED: Final = 20240101
_LOCATIONS_PER_ACCOUNT: Final = 20

# Around these made-up centres, as degrees of latitude and longitude, and how many of the locations are there.
_TOWNS: Final = (("north", 53.5, -2.2, 0.25), ("middle", 52.5, -1.9, 0.25), ("south", 51.5, -0.1, 0.5))
# OED construction codes with their share: unknown, wood frame, masonry, reinforced concrete, steel.
_CONSTRUCTIONS: Final = ((5000, 0.1), (5050, 0.15), (5100, 0.4), (5150, 0.25), (5200, 0.1))
# OED occupancy codes: residential, retail, offices, industry.
_OCCUPANCIES: Final = ((1050, 0.5), (1101, 0.15), (1117, 0.2), (1150, 0.15))


def write_sample(folder: Path) -> Path:
    """Write the sample portfolio and its workbook into a cycle's folder.

    Args:
        folder: the folder; files that are there already are replaced.

    Returns:
        The workbook.

    Raises:
        WorkbookError: the workbook cannot be written.
        OSError: the folder cannot be written to.
    """
    from irp_pipeline.helpers.workbook import Workbook, write_workbook

    for table, records in sample_tables().items():
        write_atomically(folder / PORTFOLIO / f"{table}.csv", _as_csv(records))
    files = {table: f"{PORTFOLIO}/{table}.csv" for table in ("location", "account", "ri_info", "ri_scope")}
    workbook = Workbook.model_validate(
        {
            "metadata": {"currency": "GBP", "description": "Synthetic sample"},
            "portfolios": [{"name": PORTFOLIO, "source": "csv", **files}],
            "analyses": [
                {
                    "name": f"loss-factor-{percent}",
                    "portfolio": PORTFOLIO,
                    "engine": "oasis_deterministic",
                    "loss_factor": [percent / 100],
                    "perspectives": ["GUL", "IL", "RI"],
                }
                for percent in (1, 10)
            ],
            "groupings": [],
        }
    )
    return write_workbook(folder / "configuration.xlsx", workbook, overwrite=True)


def sample_tables() -> dict[str, list[dict[str, Any]]]:
    """Return the records of the four OED tables of the sample portfolio."""
    # Seeded on purpose: the sample must be the same everywhere.
    chance = random.Random(_SEED)  # noqa: S311
    locations = [_location(number, chance) for number in range(1, LOCATIONS + 1)]
    accounts = sorted({location["AccNumber"] for location in locations})
    return {
        "location": locations,
        "account": [_account(account) for account in accounts],
        "ri_info": [_quota_share()],
        "ri_scope": [{"ReinsNumber": 1, "PortNumber": "1", "CededPercent": 0.25}],
    }


def _location(number: int, chance: random.Random) -> dict[str, Any]:
    towns, shares = zip(*((town, town[3]) for town in _TOWNS), strict=True)
    town, latitude, longitude, _ = chance.choices(towns, shares)[0]
    building = round(chance.lognormvariate(12.6, 0.8), -3)
    return {
        "PortNumber": "1",
        "AccNumber": f"A{(number - 1) // _LOCATIONS_PER_ACCOUNT + 1:03d}",
        "LocNumber": f"L{number:05d}",
        "LocName": f"Synthetic {town} {number}",
        "CountryCode": "GB",
        "Latitude": round(latitude + chance.gauss(0, 0.25), 5),
        "Longitude": round(longitude + chance.gauss(0, 0.35), 5),
        "LocPerilsCovered": "WTC",
        "LocCurrency": "GBP",
        "ConstructionCode": _pick(_CONSTRUCTIONS, chance),
        "OccupancyCode": _pick(_OCCUPANCIES, chance),
        "BuildingTIV": building,
        "OtherTIV": 0,
        "ContentsTIV": round(building * chance.uniform(0.1, 0.5), -3),
        "BITIV": round(building * chance.choice((0, 0, 0.2)), -3),
        "LocPeril": "WTC",
        "LocDedCode6All": 0,
        "LocDedType6All": 0,
        "LocDed6All": 1000,
    }


def _account(account: str) -> dict[str, Any]:
    return {
        "PortNumber": "1",
        "AccNumber": account,
        "AccCurrency": "GBP",
        "PolNumber": f"P{account[1:]}",
        "PolPerilsCovered": "WTC",
        "PolInceptionDate": "2024-01-01",
        "PolExpiryDate": "2024-12-31",
        "LayerNumber": 1,
        "LayerAttachment": 10_000,
        "LayerLimit": 20_000_000,
        "LayerParticipation": 1,
    }


def _quota_share() -> dict[str, Any]:
    return {
        "ReinsNumber": 1,
        "ReinsLayerNumber": 1,
        "ReinsName": "Synthetic quota share",
        "ReinsPeril": "WTC",
        "ReinsInceptionDate": "2024-01-01",
        "ReinsExpiryDate": "2024-12-31",
        "CededPercent": 0.25,
        "RiskLimit": 0,
        "RiskAttachment": 0,
        "OccLimit": 0,
        "OccAttachment": 0,
        "PlacedPercent": 1,
        "ReinsCurrency": "GBP",
        "InuringPriority": 1,
        "ReinsType": "QS",
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
