"""The job of a deterministic analysis: losses of the portfolio at stated damage ratios."""

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from irp_pipeline.engines.oasis.checks import (
    check_currency,
    check_deterministic,
    check_order,
)
from irp_pipeline.engines.oasis.command import run_oasislmf
from irp_pipeline.engines.oasis.compilation import (
    compile_parts,
    parts_of_deterministic,
)
from irp_pipeline.engines.oasis.deterministic import location_table, read_deterministic
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.figures import deterministic_figures
from irp_pipeline.engines.oasis.inputs import NOTHING_INSURED, OED_FLAGS, check_locations
from irp_pipeline.engines.oasis.output import write_not_modelled, write_table
from irp_pipeline.engines.oasis.portfolio import (
    Locations,
    currencies,
    may_exceed_ground_up,
    read_locations,
    write_accounts_without_terms,
    write_some_locations,
)
from irp_pipeline.engines.oasis.run_facts import (
    as_not_modelled,
)
from irp_pipeline.engines.oasis.segments import allocation_rules, deterministic_segments
from irp_pipeline.engines.program import say
from irp_pipeline.files import write_atomically


def deterministic_outcome(folder: Path, analysis: Mapping[str, Any]) -> dict[str, Any]:
    inputs, run = folder / "inputs", folder / "run"
    options = dict(analysis.get("model_options") or {})
    whole = read_locations(inputs)
    if whole is None:
        raise OasisError("Deterministic losses need a location table, and the portfolio has none")
    check_locations(whole)
    check_currency(currencies(inputs), analysis["currency"], "The portfolio", can_convert=False)
    factors = [float(factor) for factor in analysis["loss_factor"]]
    perils = options.get("model_perils_covered")
    uncovered = _uncovered(whole, perils) if perils else set()
    rows = [row for row in range(len(whole.ids)) if row not in uncovered]
    supported = options.get("supported_oed_coverage_types")
    locations = whole.only(rows, supported)
    if perils and not rows:
        raise OasisError(f"No location is insured for a peril of model_perils_covered ({', '.join(perils)})")
    if not any(locations.value(row) for row in locations.distinct()):
        raise OasisError(NOTHING_INSURED)
    source = _source(folder, analysis, locations, uncovered)
    configuration = {"print_summary": False, "portfolio_complexity": False, **options}
    write_atomically(folder / "oasislmf.json", json.dumps(configuration))
    notes = compile_parts(folder, parts_of_deterministic())
    arguments = ["-C", "oasislmf.json", "-s", str(source), "-r", str(run), "-o", "loc", "-l"]
    run_oasislmf(folder, "computes the losses", ["exposure", "run", *arguments, *map(str, factors)], run)
    say(folder, "checks the losses")
    losses = read_deterministic(run, locations, factors)
    above = may_exceed_ground_up(inputs)
    checked = check_deterministic(losses, locations, above)
    figures = deterministic_figures(losses, analysis["perspectives"])
    checked += check_order(figures, bool(above))
    segments = deterministic_segments(run, analysis, losses, locations, figures)
    checked += segments.checked
    missing = as_not_modelled(
        [
            (
                row,
                whole.perils[row],
                None,
                "",
                f"none of its perils is in model_perils_covered ({', '.join(perils or ())})",
            )
            for row in whole.distinct()
            if row in uncovered
        ],
        whole,
        [row for row in whole.distinct() if row in uncovered],
        0,
        coverages={(whole.first[row], coverage) for row in rows for coverage in locations.values},
        rates={},
        otherwise=f"its coverage is not in supported_oed_coverage_types ({', '.join(map(str, supported or ()))})",
    )
    files = {"losses": "results/losses.parquet"} | write_not_modelled(missing, folder)
    write_table(location_table(losses, locations), folder / files["losses"])
    shutil.rmtree(run)
    return {
        "figures": [*figures, *segments.figures],
        **({"segments": [of.as_json() for of in segments.segmentations]} if segments.segmentations else {}),
        "files": files,
        "currency": analysis["currency"],
        "provenance": {
            "model": None,
            "model_version": None,
            "settings": {"loss_factor": factors, **options},
            "not_modelled": dict(missing.reasons),
            "not_modelled_totals": missing.totals(),
            "not_modelled_tiv": missing.values(),
            "il_may_exceed_gul": bool(above),
            "checked": checked,
            "notes": notes,
            "processes": 1,
            **({"allocation_rules": allocation_rules(options)} if segments.segmentations else {}),
        },
    }


def _source(folder: Path, analysis: Mapping[str, Any], locations: Locations, uncovered: Collection[int]) -> Path:
    """The folder of OED files for Oasis LMF.

    Oasis LMF refuses a location without a covered peril, and needs an account table even for ground-up losses.
    """
    inputs = folder / "inputs"
    has_accounts = (inputs / "account.csv").is_file()
    if has_accounts and not uncovered:
        return inputs
    source = folder / "source"
    write_some_locations(inputs, set(locations.rows), source, with_tags=has_accounts)
    if not has_accounts:
        write_accounts_without_terms(locations, analysis["currency"], source / "account.csv")
    for name in OED_FLAGS:
        if name != "location.csv" and (inputs / name).is_file():
            shutil.copyfile(inputs / name, source / name)
    return source


def _uncovered(locations: Locations, perils: Sequence[str]) -> set[int]:
    """The rows of locations without a covered peril."""
    from oasislmf.utils.peril import get_peril_groups_df

    members = {
        str(of): {str(peril) for peril in part["peril_id"]}
        for of, part in get_peril_groups_df().groupby("peril_group_id")
    }

    def single(groups: Sequence[str]) -> set[str]:
        return {peril for group in groups for peril in members.get(group.strip(), {group.strip()})}

    covered = single(perils)
    return {row for row, of in enumerate(locations.perils) if not single(of.split(";")) & covered}
