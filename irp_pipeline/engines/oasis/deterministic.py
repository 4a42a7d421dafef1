"""Deterministic losses of a run folder: by location, as the kernel computed them, and their sums.

Ground-up losses come from ``guls.csv``, insured and net losses from the kernel's streams. The table that
``oasislmf exposure run -o loc`` writes is not used: it counts ground-up losses once for each policy layer, and merges
locations whose identifiers are equal as numbers.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.portfolio import Locations
from irp_pipeline.engines.oasis.streams import read_losses
from irp_pipeline.vocabulary import Perspective

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True)
class DeterministicLosses:
    """The losses of one run.

    Attributes:
        factors: the loss factors.
        by_row: by perspective, the losses of each row of the location table (first axis) and factor (second axis).
        totals: by perspective, the losses by factor, added up without regard to locations.
        by_policy: by perspective, the losses of each policy for each location: the rows of the location table, those of
            the account table (-1 for ground-up losses), and the losses (second axis: factor).
        items: the number of items (peril and coverage) of each row of the location table.
    """

    factors: tuple[float, ...]
    by_row: Mapping[str, np.ndarray[Any, Any]]
    totals: Mapping[str, np.ndarray[Any, Any]]
    by_policy: Mapping[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]]
    items: np.ndarray[Any, Any]


def read_deterministic(run: Path, locations: Locations, factors: Sequence[float]) -> DeterministicLosses:
    """Read the losses of a run of ``oasislmf exposure run``.

    Args:
        run: its folder.
        locations: the location table of its input.
        factors: the loss factors, in the order in which they were given.

    Raises:
        OasisError: a file is missing or cannot be read; or there are losses of a location that the input does not have.
    """
    import numpy as np

    ground_up, _ = _rows_of(run / "gul_summary_map.csv", "agg_id", locations)
    item, factor, loss = _ground_up(run / "guls.csv", len(factors))
    items = np.zeros(len(locations.ids), dtype=np.int64)
    np.add.at(items, list(ground_up.values()), 1)
    by_row: dict[str, np.ndarray[Any, Any]] = {}
    totals: dict[str, np.ndarray[Any, Any]] = {}
    by_policy: dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
    streams: list[tuple[Perspective, dict[int, int], dict[int, int], Any]]
    streams = [(Perspective.GUL, ground_up, {}, (item, factor, loss))]
    if (run / "fm_summary_map.csv").is_file():
        insured, policies = _rows_of(run / "fm_summary_map.csv", "output_id", locations)
        streams += [(name, insured, policies, read_losses(path)) for name, path in _streams(run).items()]
    for perspective, rows, policies, (of, sample, amounts) in streams:
        if unknown := sorted(set(np.unique(of).tolist()) - rows.keys()):
            raise OasisError(f"Oasis LMF gave {perspective} losses of the item {unknown[0]}, which no location has")
        outside = sample[(sample < 1) | (sample > len(factors))]
        if len(outside):
            raise OasisError(
                f"Oasis LMF gave {perspective} losses of a loss factor {outside[0]}; there are {len(factors)}"
            )
        place = np.zeros(max(rows, default=0) + 1, dtype=np.int64)
        place[list(rows)] = list(rows.values())
        losses = np.zeros((len(locations.ids), len(factors)))
        np.add.at(losses, (place[of], sample - 1), amounts)
        by_row[perspective] = losses
        policy = np.full(len(place), -1, dtype=np.int64)
        policy[list(policies)] = list(policies.values())
        pairs, number = np.unique(np.stack([place[of], policy[of]]), axis=1, return_inverse=True)
        of_pairs = np.zeros((pairs.shape[1], len(factors)))
        np.add.at(of_pairs, (number.ravel(), sample - 1), amounts)
        by_policy[perspective] = pairs[0], pairs[1], of_pairs
        totals[perspective] = np.bincount(sample - 1, weights=amounts, minlength=len(factors))
    return DeterministicLosses(tuple(factors), by_row, totals, by_policy, items)


def location_table(losses: DeterministicLosses, locations: Locations) -> pa.Table:
    """Return the losses of each location and loss factor.

    Returns:
        loss_factor; PortNumber, AccNumber and LocNumber as they were read; gul, and il and ri if there are terms. A
        location with several rows in the location table has one row for each factor here.
    """
    import numpy as np
    import pyarrow as pa

    rows = np.array(locations.distinct(), dtype=np.int64)
    count = len(losses.factors)
    ids = [[locations.ids[row][part] for row in rows for _ in range(count)] for part in range(3)]
    columns: dict[str, Any] = {"loss_factor": pa.array(list(losses.factors) * len(rows), pa.float64())}
    columns |= {
        name: pa.array(of, pa.string()) for name, of in zip(("PortNumber", "AccNumber", "LocNumber"), ids, strict=True)
    }
    columns |= {perspective.lower(): of[rows].ravel() for perspective, of in losses.by_row.items()}
    return pa.table(columns)


def _ground_up(path: Path, factors: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Item, loss factor from 1 on, and loss of ``guls.csv``."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as pc

    try:
        table = pc.read_csv(path, convert_options=pc.ConvertOptions(column_types={"loss": pa.float64()}))
    except FileNotFoundError:
        raise OasisError("Oasis LMF wrote no guls.csv: it computed no losses") from None
    item = table["item_id"].to_numpy().astype(np.int64)
    # With only one factor, there is no column for it.
    has_factor = factors > 1 and "loss_factor_idx" in table.column_names
    factor = table["loss_factor_idx"].to_numpy().astype(np.int64) + 1 if has_factor else np.ones_like(item)
    return item, factor, table["loss"].to_numpy()


def _rows_of(path: Path, key: str, locations: Locations) -> tuple[dict[int, int], dict[int, int]]:
    """Which row of the location table each item or output belongs to, and which of the account table, if it says so.

    Raises:
        OasisError: the file is missing; or a row and its identifiers do not agree with the input.
    """
    found: dict[int, int] = {}
    policies: dict[int, int] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                row = int(float(line["loc_idx"]))
                ids = (line["PortNumber"], line["AccNumber"], line["LocNumber"])
                if not 0 <= row < len(locations.ids) or locations.ids[row] != ids:
                    raise OasisError(
                        f"Oasis LMF gave losses of location {ids[2]} of account {ids[1]} in portfolio {ids[0]} "
                        f"(row {row + 1}), which the location table does not have there"
                    )
                found[int(line[key])] = locations.first[row]
                if "acc_idx" in line:
                    policies[int(line[key])] = int(float(line["acc_idx"]))
    except FileNotFoundError:
        raise OasisError(f"Oasis LMF wrote no {path.name}: it computed no losses") from None
    except (KeyError, ValueError) as error:
        raise OasisError(f"{path.name} of Oasis LMF cannot be read: {error}") from None
    return found, policies


def _streams(run: Path) -> dict[Perspective, Path]:
    """The kernel's files of insured and net losses."""
    output = run / "output"
    found = {Perspective.IL: output / "ils.bin"}
    try:
        layers = json.loads((run / "ri_layers.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return found
    # Each inuring priority applies to what the previous one leaves: the last has the net loss.
    return found | {Perspective.RI: output / f"ri{len(layers)}.bin"}
