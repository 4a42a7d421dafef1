"""From the output files of Oasis LMF to figures, which are taken over to the last digit.

The tables and their codes are those of the Open Results Data standard:
https://github.com/OasisLMF/ODS_OpenResultsData
"""

import hashlib
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from irp_pipeline.engines.oasis.failures import OasisError

_SAMPLED = 2  # SampleType: by the sampled losses, not by the means, to which terms do not apply truly
_FULL_UNCERTAINTY = 2  # EPCalc
_CURVES = {1: "OEP", 3: "AEP"}  # EPType; 2 and 4 are the tail conditional expectations


def stochastic_figures(output: Path, perspectives: Sequence[str], periods: Sequence[int]) -> list[dict[str, Any]]:
    """Read AAL, standard deviation, OEP and AEP.

    Args:
        output: the folder of the ORD files.
        perspectives: ``GUL``, ``IL``, ``RI``.
        periods: the return periods wanted, in years; empty means all that are in the files.

    Raises:
        OasisError: a file is missing, or a figure is missing or no number.
    """
    return [figure for perspective in perspectives for figure in _of_perspective(output, perspective, periods)]


def _of_perspective(output: Path, perspective: str, periods: Sequence[int]) -> Iterator[dict[str, Any]]:
    palt = _read(output, f"{perspective.lower()}_S1_palt")
    sampled = [row for row in palt if row["SampleType"] == _SAMPLED]
    if len(sampled) != 1:
        raise OasisError(f"Oasis LMF gave {len(sampled)} average annual losses for {perspective} instead of one")
    yield _figure(perspective, "AAL", sampled[0]["MeanLoss"])
    yield _figure(perspective, "STD_DEV", sampled[0]["SDLoss"])
    found = {
        (_CURVES[row["EPType"]], row["ReturnPeriod"]): row["Loss"]
        for row in _read(output, f"{perspective.lower()}_S1_ept")
        if row["EPCalc"] == _FULL_UNCERTAINTY and row["EPType"] in _CURVES
    }
    for curve in _CURVES.values():
        for period in sorted(periods or {period for of, period in found if of == curve}):
            # A return period beyond what was simulated has no loss in the file.
            if (curve, period) in found:
                yield _figure(perspective, curve, found[curve, period], return_period=period)


def deterministic_figures(
    losses: Mapping[str, Sequence[float]], factors: Sequence[float], perspectives: Sequence[str]
) -> list[dict[str, Any]]:
    """Sum up the losses of locations for each loss factor.

    Args:
        losses: columns ``loss_factor``, and ``gul``, ``il`` and ``ri`` as far as there are terms.
        factors: the loss factors.
        perspectives: ``GUL``, ``IL``, ``RI``.

    Raises:
        OasisError: there are no losses of a perspective.
    """
    figures = []
    for perspective in perspectives:
        column = losses.get(perspective.lower())
        if column is None:
            raise OasisError(f"Oasis LMF gave no {perspective} losses: does the portfolio have the terms for them?")
        for factor in factors:
            total = math.fsum(loss for loss, of in zip(column, losses["loss_factor"], strict=True) if of == factor)
            figures.append(_figure(perspective, "LOSS", total, loss_factor=factor))
    return figures


def occurrence(file: Path) -> tuple[str, int]:
    """Return the hash of an occurrence set and its number of periods.

    Args:
        file: ``occurrence.bin`` as the kernel read it: two 4-byte integers, options and the number of periods, and
            then the occurrences.
    """
    content = file.read_bytes()
    _, periods = struct.unpack_from("<ii", content)
    return hashlib.sha256(content).hexdigest(), periods


def _figure(perspective: str, metric: str, loss: float, **of: float) -> dict[str, Any]:
    if not math.isfinite(loss):
        raise OasisError(f"Oasis LMF gave {loss} as {metric} of {perspective}")
    return {
        "perspective": perspective,
        "metric": metric,
        "return_period": None,
        "loss_factor": None,
        **of,
        "loss": loss,
    }


def _read(output: Path, name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(output / f"{name}.parquet").to_pylist()
    except FileNotFoundError:
        raise OasisError(f"Oasis LMF wrote no {name}.parquet: it computed no losses") from None
    return rows
