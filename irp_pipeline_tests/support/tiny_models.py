"""Three tiny catastrophe models of different make: 20 events in 100 years on four areas. Nothing in them is real.

They share one folder of data, which is outside of theirs: a lookup by a grid, one by a Python module, one by postcodes.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

EVENTS, YEARS = 20, 100
MAKES = ("grid", "module", "postcode")
_PERIL = "WTC"
_COVERAGES = (1, 3)
_INTENSITIES, _AREAS = 3, 4

_MODULE = """
import pandas as pd
from oasislmf.lookup.base import OasisBaseLookup

SOUTH = 51.0


class TinyKeysLookup(OasisBaseLookup):
    def process_locations(self, locations):
        rows = []
        for place in locations.to_dict(orient="records"):
            area = 1 + int(place["Latitude"] >= SOUTH + 1) * 2 + int(place["Longitude"] >= 1)
            for coverage in (1, 3):
                there = SOUTH <= place["Latitude"] < SOUTH + 2
                rows.append({
                    "loc_id": place["loc_id"], "peril_id": "WTC", "coverage_type": coverage,
                    "area_peril_id": area if there else None, "vulnerability_id": 1 if there else None,
                    "status": "success" if there else "fail", "message": "" if there else "outside of the region",
                })
        return pd.DataFrame(rows)
"""


def write_model(folder: Path, make: str) -> Path:
    """Write one of the three models; return its folder, which is below ``folder`` like its data."""
    data = folder / "model_data"
    if not data.exists():
        _write_data(data)
    model = folder / make / "tests" / "test_1"
    keys = folder / make / "keys_data"
    for new in (model, keys):
        new.mkdir(parents=True)
    lookup, files = _lookup(make)
    for name, content in files.items():
        (keys / name).write_text(content, encoding="utf-8")
    _write_json(keys / "lookup_config.json", lookup)
    _write_json(
        model / "oasislmf.json",
        {
            "model_data_dir": "../../../model_data",
            "lookup_config_json": "../../keys_data/lookup_config.json",
            "lookup_data_dir": "../../keys_data",
            "model_settings_json": "model_settings.json",
            "lookup_multiprocessing": False,
        },
    )
    _write_json(
        model / "model_settings.json",
        {
            "model_supplier_id": "tests",
            "model_name_id": f"tiny-{make}",
            "model_version_id": "1",
            "model_settings": {
                "event_set": {
                    "name": "Events",
                    "desc": "made up",
                    "default": "p",
                    "options": [{"id": "p", "desc": "all"}],
                },
                "event_occurrence_id": {
                    "name": "Years",
                    "desc": "made up",
                    "default": "lt",
                    "options": [{"id": "lt", "desc": "all"}],
                },
            },
            "lookup_settings": {"supported_perils": [{"id": _PERIL, "desc": "made up", "peril_correlation_group": 1}]},
            "data_settings": {
                "damage_group_fields": ["PortNumber", "AccNumber", "LocNumber"],
                "hazard_group_fields": ["PortNumber", "AccNumber", "LocNumber"],
            },
        },
    )
    return model


def write_portfolio(
    folder: Path, locations: Sequence[Mapping[str, Any]], accounts: Sequence[Mapping[str, Any]]
) -> Path:
    """Write OED tables; every column that a row of them has is a column."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("location", locations), ("account", accounts)):
        if rows:
            columns = list(dict.fromkeys(column for row in rows for column in row))
            with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(rows)
    return folder


def write_reinsurance(folder: Path, *, ceded: float) -> None:
    """Write the tables of a quota share of the whole portfolio.

    Args:
        folder: the portfolio.
        ceded: the share of every insured loss that is ceded, from 0 to 1.
    """
    info = {
        "ReinsNumber": 1, "ReinsLayerNumber": 1, "ReinsName": "quota share", "ReinsPeril": "AA1",
        "ReinsInceptionDate": "2024-01-01", "ReinsExpiryDate": "2024-12-31", "CededPercent": ceded, "RiskLimit": 0,
        "RiskAttachment": 0, "OccLimit": 0, "OccAttachment": 0, "InuringPriority": 1, "ReinsType": "QS",
        "PlacedPercent": 1, "ReinsCurrency": "GBP", "RiskLevel": "SEL", "AttachmentBasis": "LO",
    }  # fmt: skip
    scope = {"ReinsNumber": 1, "PortNumber": "1", "CededPercent": ceded}
    for name, row in (("ri_info", info), ("ri_scope", scope)):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*row])
            writer.writeheader()
            writer.writerow(row)


def place(number: str, **more: Any) -> dict[str, Any]:
    """A location of 150,000 in the region of the models."""
    return {
        "PortNumber": "1", "AccNumber": "A1", "LocNumber": number, "CountryCode": "GB", "Latitude": 51.5,
        "Longitude": 0.5, "PostalCode": "AB1", "OccupancyCode": 1050, "ConstructionCode": 5000,
        "LocPerilsCovered": _PERIL, "BuildingTIV": 100000, "OtherTIV": 0, "ContentsTIV": 50000, "BITIV": 0,
        "LocCurrency": "GBP",
    } | more  # fmt: skip


def account(number: str = "A1", policy: str = "P1", **more: Any) -> dict[str, Any]:
    """A policy that pays everything."""
    return {
        "PortNumber": "1", "AccNumber": number, "AccCurrency": "GBP", "PolNumber": policy, "PolPerilsCovered": "AA1",
        "LayerNumber": 1, "LayerParticipation": 1, "LayerLimit": 0, "LayerAttachment": 0,
    } | more  # fmt: skip


def _lookup(make: str) -> tuple[dict[str, Any], dict[str, str]]:
    head = {
        "model": {"supplier_id": "tests", "model_id": "Tiny", "model_version": "1"},
        "keys_data_path": ".",
    }
    if make == "module":
        return {**head, "lookup_module_path": "tiny_lookup.py"}, {"tiny_lookup.py": _MODULE}
    areas: dict[str, Any] = {
        "type": "fixed_size_geo_grid",
        "columns": ["latitude", "longitude"],
        "parameters": {"lat_min": 51, "lat_max": 53, "lon_min": 0, "lon_max": 2, "arc_size": 1},
    }
    files = {"vulnerabilities.csv": "peril_id,coverage_type,vulnerability_id\nWTC,1,1\nWTC,3,1\n"}
    if make == "postcode":
        areas = {
            "type": "merge",
            "columns": ["peril_id", "postalcode"],
            "parameters": {"file_path": "%%KEYS_DATA_PATH%%/postcodes.csv", "id_columns": ["area_peril_id"]},
        }
        files["postcodes.csv"] = "peril_id,postalcode,area_peril_id\nWTC,AB1,1\nWTC,AB2,2\nWTC,AB3,3\n"
    steps = {
        "perils": {
            "type": "split_loc_perils_covered",
            "columns": ["locperilscovered"],
            "parameters": {"model_perils_covered": [_PERIL]},
        },
        "area": areas,
        "coverages": {
            "type": "simple_pivot",
            "parameters": {"pivots": [{"new_cols": {"coverage_type": coverage}} for coverage in _COVERAGES]},
        },
        "vulnerability": {
            "type": "merge",
            "columns": ["peril_id", "coverage_type"],
            "parameters": {"file_path": "%%KEYS_DATA_PATH%%/vulnerabilities.csv", "id_columns": ["vulnerability_id"]},
        },
    }
    return {
        **head,
        "builtin_lookup_type": "new_lookup",
        "step_definition": steps,
        "strategy": list(steps),
    }, files


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _records(rows: Sequence[tuple[float, ...]], *kinds: str) -> bytes:
    return np.array(rows, dtype=[(f"f{number}", kind) for number, kind in enumerate(kinds)]).tobytes()


def _numbers(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def _write_data(data: Path) -> None:
    data.mkdir(parents=True)
    random = np.random.default_rng(1)
    content, index = _numbers(_INTENSITIES, 1), []
    for event in range(1, EVENTS + 1):
        rows = []
        for area in range(1, _AREAS + 1):
            share = float(random.uniform(0.2, 0.8))
            first = int(random.integers(1, _INTENSITIES))
            rows += [(area, first, share), (area, first + 1, 1 - share)]
        part = _records(rows, "<u4", "<i4", "<f4")
        index.append((event, len(content), len(part)))
        content += part
    (data / "footprint.bin").write_bytes(content)
    (data / "footprint.idx").write_bytes(_records(index, "<i4", "<i8", "<i8"))
    damage = [
        (1, 1, 1, 0.6),
        (1, 1, 2, 0.4),
        (1, 2, 1, 0.2),
        (1, 2, 2, 0.5),
        (1, 2, 3, 0.3),
        (1, 3, 2, 0.4),
        (1, 3, 3, 0.6),
    ]
    (data / "vulnerability.bin").write_bytes(_numbers(3) + _records(damage, "<i4", "<i4", "<i4", "<f4"))
    bins = [(1, 0.0, 0.0, 0.0, 1), (2, 0.0, 0.2, 0.1, 1), (3, 0.2, 1.0, 0.6, 1)]
    (data / "damage_bin_dict.bin").write_bytes(_records(bins, "<i4", "<f4", "<f4", "<f4", "<i4"))
    (data / "events_p.bin").write_bytes(_numbers(*range(1, EVENTS + 1)))
    years = sorted((int(year), event) for event, year in enumerate(random.integers(1, YEARS + 1, EVENTS), start=1))
    occurrences = [(event, year, 365 * year) for year, event in years]
    (data / "occurrence_lt.bin").write_bytes(_numbers(1, YEARS) + _records(occurrences, "<i4", "<i4", "<i4"))
    (data / "returnperiods.bin").write_bytes(_numbers(100, 50, 10, 5))
