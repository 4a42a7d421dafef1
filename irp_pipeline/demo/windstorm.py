"""A small synthetic windstorm model for Great Britain, as a folder that Oasis LMF can run.

The storms come from :mod:`irp_pipeline.demo.storms`, their damage from :mod:`irp_pipeline.demo.damage`; this module
writes the files. The binary files have the layout that ``oasislmf.pytools`` reads. There are no CSV files beside them,
since Oasis LMF would silently read a CSV file if a binary file were missing.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from irp_pipeline.demo.damage import CONSTRUCTIONS, COVERAGES, DAMAGE_BINS, vulnerabilities, vulnerability_id
from irp_pipeline.demo.storms import (
    ANNUAL_RATE,
    EVENTS,
    GREAT_BRITAIN,
    INTENSITY_BINS,
    PERIODS,
    Footprint,
    Occurrence,
    Storm,
    footprint,
    occurrences,
    storms,
)
from irp_pipeline.errors import IrpError
from irp_pipeline.files import make_folder

MODEL: Final = "synthetic-windstorm"
"""The name of the model, and of the folder of its first release."""
VERSION: Final = "1"
"""Of the first release. Raise it with every change of the files: a folder with a different version is replaced."""
PERIL: Final = "WEC"
"""OED peril: wind of an extra-tropical cyclone."""

_SUPPLIER: Final = "irp_pipeline"
_EVENT_SET: Final = "p"
_OCCURRENCE_SET: Final = "lt"
_SETTINGS: Final = "model_settings.json"
_PARTIAL_SUFFIX: Final = ".partial"
_RETURN_PERIODS: Final = (1000, 500, 250, 200, 100, 50, 25, 10, 5, 2)
_ABOUT: Final = "Synthetic: made up to try irp_pipeline; no storm, damage or loss in it is real. Not for any decision."


@dataclass(frozen=True)
class Release:
    """A release of the model.

    Attributes:
        version: its version.
        folder: the name of its folder.
        mean_damage: the mean damage at 40 m/s of constructions, by name, where it is not that of
            :data:`~irp_pipeline.demo.damage.CONSTRUCTIONS`.
    """

    version: str
    folder: str
    mean_damage: Mapping[str, float]


FIRST_RELEASE: Final = Release(VERSION, MODEL, {})
SECOND_RELEASE: Final = Release("1.1", f"{MODEL}-1.1", {"wood": 0.052, "masonry": 0.033})
"""Wood and masonry are more vulnerable than in the first release; hazard and years are the same."""


class ModelFolderError(IrpError):
    """The model's folder holds something else."""


def write_model(folder: Path, release: Release = FIRST_RELEASE) -> Path:
    """Make sure that a release of the model is in a folder; does nothing if its current version is there.

    A folder with this name is always complete. It is replaced if it holds a different version of the model; analyses
    that are reading it continue with the files that they have open.

    Args:
        folder: the model's folder; the folders above it are made if they are missing.
        release: what is written.

    Returns:
        ``folder``.

    Raises:
        ModelFolderError: something else has this name.
        OSError: the folder cannot be written.
    """
    if _version_in(folder) == release.version:
        return folder
    make_folder(folder.parent)
    with _only_one_writer(folder):
        if _version_in(folder) == release.version:
            return folder  # another process wrote it while this one waited
        _remove_abandoned(folder)
        partial = _beside(folder)
        try:
            _write_files(partial, release)
            _put_in_place(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _version_in(folder: Path) -> str | None:
    """Return the version of the model in a folder; None if the folder does not exist."""
    if not folder.exists():
        return None
    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        if (settings["model_supplier_id"], settings["model_name_id"]) == (_SUPPLIER, MODEL):
            return str(settings["model_version_id"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ModelFolderError(f"{folder} does not hold the model {MODEL}, but something else. Move it away and try again.")


@contextmanager
def _only_one_writer(folder: Path) -> Iterator[None]:
    with folder.with_name(f".{folder.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_PARTIAL_SUFFIX}")


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed writers left behind; the caller holds the lock, so no other writer is at work."""
    for other in folder.parent.iterdir():
        if other.name.startswith(f".{folder.name}.") and other.name.endswith(_PARTIAL_SUFFIX):
            shutil.rmtree(other, ignore_errors=True)


def _put_in_place(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    former = _beside(folder)
    folder.rename(former)
    try:
        partial.rename(folder)
    except BaseException:
        former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _write_files(folder: Path, release: Release) -> None:
    events = storms()
    data = folder / "model_data"
    keys = folder / "keys_data"
    for new in (data, keys):
        make_folder(new)
    _write_footprint(data, events)
    _write_vulnerabilities(data, release)
    _write_damage_bins(data)
    _write_events(data, events)
    _write_occurrences(data, occurrences(events))
    _write_return_periods(data)
    (keys / "vulnerability_dict.csv").write_text(_vulnerability_dictionary(), encoding="utf-8")
    for name, content in (
        ("oasislmf.json", _configuration()),
        ("lookup_config.json", _lookup_configuration(release)),
        (_SETTINGS, _model_settings(release)),
        ("analysis_settings.json", _example_analysis_settings()),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(release), encoding="utf-8")


# The binary files. Their numbers are little-endian on every machine.


def _records(rows: Sequence[tuple[float, ...]], fields: list[tuple[str, str]]) -> bytes:
    import numpy as np

    return np.array(rows, dtype=fields).tobytes()


def _numbers(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def _write_footprint(folder: Path, events: list[Storm]) -> None:
    """Write the hazard of each event, and an index of where each event begins."""
    header = _numbers(INTENSITY_BINS, 1)  # 1: intensities are uncertain
    index = []
    offset = len(header)
    with (folder / "footprint.bin").open("wb") as file:
        file.write(header)
        for storm in events:
            content = _footprint_records(footprint(storm))
            file.write(content)
            index.append((storm.event_id, offset, len(content)))
            offset += len(content)
    fields = [("event_id", "<i4"), ("offset", "<i8"), ("size", "<i8")]
    (folder / "footprint.idx").write_bytes(_records(index, fields))


def _footprint_records(where: Footprint) -> bytes:
    import numpy as np

    fields = [("areaperil_id", "<u4"), ("intensity_bin_id", "<i4"), ("probability", "<f4")]
    records = np.empty(len(where.area_peril), dtype=fields)
    records["areaperil_id"] = where.area_peril
    records["intensity_bin_id"] = where.intensity_bin
    records["probability"] = where.probability
    return records.tobytes()


def _write_vulnerabilities(folder: Path, release: Release) -> None:
    fields = [
        ("vulnerability_id", "<i4"),
        ("intensity_bin_id", "<i4"),
        ("damage_bin_id", "<i4"),
        ("probability", "<f4"),
    ]
    content = _records(list(vulnerabilities(release.mean_damage)), fields)
    (folder / "vulnerability.bin").write_bytes(_numbers(len(DAMAGE_BINS)) + content)


def _write_damage_bins(folder: Path) -> None:
    fields = [
        ("bin_index", "<i4"),
        ("bin_from", "<f4"),
        ("bin_to", "<f4"),
        ("interpolation", "<f4"),
        ("damage_type", "<i4"),
    ]
    share_of_value = 1
    rows = [
        (number, lower, upper, (lower + upper) / 2, share_of_value)
        for number, (lower, upper) in enumerate(DAMAGE_BINS, start=1)
    ]
    (folder / "damage_bin_dict.bin").write_bytes(_records(rows, fields))


def _write_events(folder: Path, events: list[Storm]) -> None:
    (folder / f"events_{_EVENT_SET}.bin").write_bytes(_numbers(*(storm.event_id for storm in events)))


def _write_occurrences(folder: Path, found: list[Occurrence]) -> None:
    header = _numbers(1, PERIODS)  # 1: dates are given as day numbers
    content = [(item.event_id, item.period, _day_number(item)) for item in found]
    fields = [("event_id", "<i4"), ("period_no", "<i4"), ("occ_date_id", "<i4")]
    (folder / f"occurrence_{_OCCURRENCE_SET}.bin").write_bytes(header + _records(content, fields))


def _day_number(occurrence: Occurrence) -> int:
    """Return the day as Oasis LMF counts days; the simulated year is the year of the date."""
    month = (occurrence.month + 9) % 12  # March is the first month
    year = occurrence.period - month // 10
    return 365 * year + year // 4 - year // 100 + year // 400 + (month * 306 + 5) // 10 + occurrence.day - 1


def _write_return_periods(folder: Path) -> None:
    (folder / "returnperiods.bin").write_bytes(_numbers(*_RETURN_PERIODS))


# The files that say how to run the model.


def _readme(release: Release) -> str:
    return f"""\
# {MODEL}, version {release.version}

{_ABOUT}

{EVENTS} windstorms over Great Britain in {PERIODS:,} simulated years, {ANNUAL_RATE:g} a year on average, made by
`irp_pipeline.demo` from fixed seeds. `docs/model.md` of irp_pipeline tells how, and what the losses look like. The
folder is written by `irp demo`; another version of irp_pipeline may replace it, so change nothing here.
"""


def _vulnerability_dictionary() -> str:
    lines = ["peril_id,coverage_type,constructioncode,vulnerability_id"]
    lines += [
        f"{PERIL},{coverage},{code},{vulnerability_id(construction, coverage)}"
        for construction, coverage in itertools.product(CONSTRUCTIONS, COVERAGES)
        for code in construction.codes
    ]
    return "\n".join(lines) + "\n"


def _configuration() -> dict[str, Any]:
    return {
        "model_data_dir": "model_data",
        "model_settings_json": _SETTINGS,
        "lookup_config_json": "lookup_config.json",
        "lookup_data_dir": "keys_data",
        "lookup_multiprocessing": False,
    }


def _lookup_configuration(release: Release) -> dict[str, Any]:
    grid = GREAT_BRITAIN
    return {
        "model": {"supplier_id": _SUPPLIER, "model_id": MODEL, "model_version": release.version},
        "builtin_lookup_type": "new_lookup",
        "keys_data_path": "keys_data",
        "step_definition": {
            "perils": {
                "type": "split_loc_perils_covered",
                "columns": ["locperilscovered"],
                "parameters": {"model_perils_covered": [PERIL]},
            },
            "area": {
                "type": "fixed_size_geo_grid",
                "columns": ["latitude", "longitude"],
                "parameters": {
                    "lat_min": grid.south,
                    "lat_max": grid.north,
                    "lon_min": grid.west,
                    "lon_max": grid.east,
                    "arc_size": grid.cell,
                },
            },
            "coverages": {
                "type": "simple_pivot",
                "parameters": {"pivots": [{"new_cols": {"coverage_type": coverage}} for coverage in COVERAGES]},
            },
            "vulnerability": {
                "type": "merge",
                "columns": ["peril_id", "coverage_type", "constructioncode"],
                "parameters": {
                    "file_path": "%%KEYS_DATA_PATH%%/vulnerability_dict.csv",
                    "id_columns": ["vulnerability_id"],
                },
            },
        },
        "strategy": ["perils", "area", "coverages", "vulnerability"],
    }


def _model_settings(release: Release) -> dict[str, Any]:
    # Only hazard is correlated. If damage is correlated too, Oasis LMF 2.5.8 draws both from the same numbers for an
    # event: strong gusts then go with high damage, and sampled losses are too high by more than a quarter.
    return {
        "version": "3",
        "name": "Synthetic windstorm, Great Britain",
        "description": _ABOUT,
        "model_supplier_id": _SUPPLIER,
        "model_name_id": MODEL,
        "model_version_id": release.version,
        "model_settings": {
            "event_set": {
                "name": "Event set",
                "desc": "Synthetic storms",
                "default": _EVENT_SET,
                "options": [{"id": _EVENT_SET, "desc": f"{EVENTS} synthetic storms"}],
            },
            "event_occurrence_id": {
                "name": "Occurrence set",
                "desc": "Which storm comes in which year",
                "default": _OCCURRENCE_SET,
                "options": [
                    {"id": _OCCURRENCE_SET, "desc": "Poisson, long term", "max_periods": PERIODS},
                ],
            },
            "correlation_settings": [
                {"peril_correlation_group": 1, "damage_correlation_value": "0.0", "hazard_correlation_value": "0.5"}
            ],
        },
        "lookup_settings": {
            "supported_perils": [{"id": PERIL, "desc": "Extra-tropical cyclone", "peril_correlation_group": 1}]
        },
        "data_settings": {
            "damage_group_fields": ["PortNumber", "AccNumber", "LocNumber"],
            "hazard_group_fields": ["PortNumber", "AccNumber", "LocNumber"],
        },
    }


def _example_analysis_settings() -> dict[str, Any]:
    return {
        "analysis_tag": "example",
        "model_supplier_id": _SUPPLIER,
        "model_name_id": MODEL,
        "number_of_samples": 10,
        "gul_threshold": 0,
        "model_settings": {"event_set": _EVENT_SET, "event_occurrence_id": _OCCURRENCE_SET},
        **{
            key: value
            for perspective in ("gul", "il", "ri")
            for key, value in (
                (f"{perspective}_output", True),
                (f"{perspective}_summaries", [_example_summary()]),
            )
        },
    }


def _example_summary() -> dict[str, Any]:
    return {
        "id": 1,
        "ord_output": {
            "alt_period": True,
            "ept_full_uncertainty_oep": True,
            "ept_full_uncertainty_aep": True,
            "plt_sample": True,
            "parquet_format": True,
            "return_period_file": True,
        },
    }
