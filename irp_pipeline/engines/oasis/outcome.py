"""From the folder of a finished run of Oasis LMF to a checked outcome: figures, tables and provenance.

The run may be one of this machine or one of an Oasis Platform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irp_pipeline.engines.oasis.checks import (
    check_currency,
    check_curves,
    check_order,
    check_period_losses,
    check_values,
)
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.figures import occurrence, stochastic_figures
from irp_pipeline.engines.oasis.output import keep_output, write_not_modelled
from irp_pipeline.engines.oasis.portfolio import Locations, may_exceed_ground_up, read_locations
from irp_pipeline.engines.oasis.run_facts import (
    NotModelled,
    conversion,
    not_modelled,
    read_modelled,
    settings_used,
    total_value,
)
from irp_pipeline.engines.oasis.segments import stochastic_segments
from irp_pipeline.vocabulary import Perspective


@dataclass(frozen=True)
class OccurrenceSet:
    """The simulated years of a run.

    Attributes:
        hash: what tells it from other occurrence sets.
        periods: the number of years.
    """

    hash: str
    periods: int


def read_outcome(
    folder: Path,
    run: Path,
    analysis: Mapping[str, Any],
    return_periods: Sequence[int],
    *,
    changes_portfolio: bool,
    years: OccurrenceSet | None = None,
) -> dict[str, Any]:
    """Read the figures of a run, check them, and keep its tables.

    Args:
        folder: has ``inputs``, the portfolio; the tables that are kept are moved to its ``results``.
        run: has ``input`` and ``output`` as Oasis LMF left them.
        analysis: a row of the sheet Analyses, with the ``currency`` of its losses.
        return_periods: those of its settings, in years; empty means all that are in the files.
        changes_portfolio: whether the model changes the portfolio before it runs.
        years: the occurrence set; None: that of ``occurrence.bin`` in the run's input.

    Returns:
        ``figures``, ``files`` by name as paths relative to ``folder``, ``currency`` and ``provenance``.

    Raises:
        OasisError: a figure is missing or cannot be right, or the run does not say what it used.
    """
    inputs = folder / "inputs"
    used = settings_used(run)
    samples = int(used["number_of_samples"])
    if samples != int(analysis["samples"]):
        raise OasisError(f"Oasis LMF ran with {samples} samples, but {analysis['samples']} were asked for")
    converted = conversion(run / "input")
    check_currency(converted.currencies, analysis["currency"], "The run of Oasis LMF")
    years = years or OccurrenceSet(*occurrence(run / "input" / "occurrence.bin"))
    is_weighted = (run / "input" / "periods.bin").exists()
    found = stochastic_figures(
        run / "output", analysis["perspectives"], return_periods, periods=years.periods, samples=samples
    )
    checked, not_checked = ["every figure is a number and not below zero"], []
    locations = _comparable_locations(inputs, changes_portfolio)
    missing: NotModelled | None = None
    if locations is None:
        why = "the model changes the portfolio before it runs"
        not_checked.append(
            "insured values and the locations modelled: "
            f"{why if changes_portfolio else 'the portfolio has no location table'}"
        )
    else:
        modelled = read_modelled(run / "input", locations)
        check_values(modelled.values, locations, converted.rate_of_row)
        missing = not_modelled(run / "input", locations, modelled, converted.rate_of_row)
        checked.append("no location is insured for more than the portfolio says, and there are no others")
    above = changes_portfolio or bool(may_exceed_ground_up(inputs))
    checked += check_order(found.figures, above)
    checked += check_curves(found.figures, is_weighted=is_weighted)
    segments = stochastic_segments(
        run,
        analysis,
        used,
        found.figures,
        samples=samples,
        locations=locations,
        rates=converted.rate_of_row,
        is_weighted=is_weighted,
    )
    checked += segments.checked
    if above:
        not_checked.append("IL at most GUL: layers of an account pay together, or terms are stepped or changed")
    files = keep_output(run / "output", folder / "results")
    is_amplified = (run / "input" / "amplifications.bin").exists()
    most = None if is_amplified or changes_portfolio else total_value(run / "input")
    if most is not None:
        most *= analysis.get("loss_multiplier") or 1
    for perspective in analysis["perspectives"]:
        kept = files.get(f"{perspective.lower()}_plt_sample")
        if kept is None or is_weighted:
            why = "years have different weights" if kept else "period losses were not asked for"
            if not samples:
                why = "without samples there are none"
            not_checked.append(f"{perspective} against period losses: {why}")
            continue
        checked += check_period_losses(
            folder / kept,
            found.figures,
            perspective=perspective,
            periods=years.periods,
            samples=samples,
            most=most if perspective == Perspective.GUL or not above else None,
        )
    if missing is not None:
        files |= write_not_modelled(missing, folder)
    return {
        "figures": [*found.figures, *segments.figures],
        **({"segments": [of.as_json() for of in segments.segmentations]} if segments.segmentations else {}),
        "files": files,
        "currency": analysis["currency"],
        "provenance": {
            "samples": samples,
            "losses_by": "samples" if samples else "means",
            "periods": years.periods,
            "weighted_periods": is_weighted,
            "occurrence_hash": years.hash,
            "exchange_rates": dict(converted.rates),
            "not_modelled": dict(missing.reasons) if missing is not None else {},
            "not_modelled_totals": missing.totals() if missing is not None else None,
            "not_modelled_tiv": missing.values() if missing is not None else None,
            "il_may_exceed_gul": above,
            "return_periods_beyond": found.beyond,
            "aal_by_means": found.means,
            "not_defined": found.not_defined,
            "checked": checked,
            "not_checked": not_checked,
            "settings": used,
        },
    }


def keep_tables(folder: Path, run: Path, *, changes_portfolio: bool) -> dict[str, str]:
    """Keep the tables of a run, without reading its figures; return them by name as paths relative to ``folder``.

    Args: as for :func:`read_outcome`.
    """
    files = keep_output(run / "output", folder / "results")
    locations = _comparable_locations(folder / "inputs", changes_portfolio)
    if locations is not None:
        modelled = read_modelled(run / "input", locations)
        files |= write_not_modelled(not_modelled(run / "input", locations, modelled, {}), folder)
    return files


def _comparable_locations(inputs: Path, changes_portfolio: bool) -> Locations | None:
    return None if changes_portfolio else read_locations(inputs)
