"""The job of a stochastic analysis: a model's losses by simulated year."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irp_pipeline import settings
from irp_pipeline.engines.oasis.analysis import Settings, analysis_settings
from irp_pipeline.engines.oasis.checks import (
    check_currency,
    check_curves,
    check_order,
    check_period_losses,
    check_values,
)
from irp_pipeline.engines.oasis.command import run_oasislmf
from irp_pipeline.engines.oasis.compilation import (
    compile_parts,
    parts_of_stochastic,
)
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.figures import occurrence, stochastic_figures
from irp_pipeline.engines.oasis.inputs import OED_FLAGS, check_locations
from irp_pipeline.engines.oasis.model import (
    BROUGHT_BY_JOB,
    Model,
    check_model,
    path_entries,
    read_model,
    read_object,
    unused_entries,
)
from irp_pipeline.engines.oasis.output import keep_output, write_not_modelled
from irp_pipeline.engines.oasis.packages import check_packages
from irp_pipeline.engines.oasis.portfolio import (
    check_identifiers,
    currencies,
    may_exceed_ground_up,
    read_locations,
)
from irp_pipeline.engines.oasis.run_facts import (
    NotModelled,
    conversion,
    modelled_values,
    not_modelled,
    settings_used,
    total_value,
)
from irp_pipeline.engines.program import say
from irp_pipeline.files import write_atomically
from irp_pipeline.vocabulary import Perspective


def stochastic_outcome(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    analysis, inputs, run = request["analysis"], folder / "inputs", folder / "run"
    options = analysis.get("model_options") or {}
    model = read_model(Path(request["model"]), options)
    ignored = unused_entries(model)
    check_model(model)
    check_packages(model)
    wanted = str(analysis["currency"])
    reporting = model.configuration.get("reporting_currency")
    if reporting:
        check_currency({"reporting_currency": {str(reporting)}}, wanted, "The model's configuration")
    else:
        check_currency(currencies(inputs), wanted, "The portfolio")
    check_identifiers(inputs, analysis["perspectives"])
    if not model.configuration.get("exposure_pre_analysis_module"):
        check_locations(read_locations(inputs))
    given = analysis_settings(analysis, model, _base_settings(model, request.get("settings")))
    write_atomically(folder / "analysis_settings.json", json.dumps(given.chosen, indent=1))
    write_atomically(folder / "oasislmf.json", json.dumps(_absolute(model), indent=1))
    processes = settings.job_processes()
    arguments = ["-C", "oasislmf.json", "-a", "analysis_settings.json", "-r", str(run), "-n", str(processes)]
    for name, flag in OED_FLAGS.items():
        if (inputs / name).exists():
            arguments += [flag, f"inputs/{name}"]
    parts = parts_of_stochastic(
        analysis["perspectives"], bool(analysis.get("event_losses")), bool(analysis.get("period_losses"))
    )
    notes = compile_parts(folder, parts)
    command = ["model", "run", *arguments, "--resource-monitor-interval", "9999"]
    run_oasislmf(folder, "computes the losses", command, run)
    say(folder, "checks the losses")
    outcome = _read_outcome(folder, analysis, model, given)
    shutil.rmtree(run)
    provenance = outcome["provenance"]
    provenance["processes"] = processes
    provenance["notes"] = notes
    provenance["ignored"] = [*ignored, *given.ignored]
    return outcome


def _read_outcome(folder: Path, analysis: Mapping[str, Any], model: Model, given: Settings) -> dict[str, Any]:
    """Read the figures of a run, check them, and keep its tables."""
    inputs, run = folder / "inputs", folder / "run"
    used = settings_used(run)
    samples = int(used["number_of_samples"])
    if samples != int(analysis["samples"]):
        raise OasisError(f"Oasis LMF ran with {samples} samples, but {analysis['samples']} were asked for")
    converted = conversion(run / "input")
    check_currency(converted.currencies, analysis["currency"], "The run of Oasis LMF")
    occurrence_hash, periods = occurrence(run / "input" / "occurrence.bin")
    is_weighted = (run / "input" / "periods.bin").exists()
    found = stochastic_figures(
        run / "output", analysis["perspectives"], given.return_periods, periods=periods, samples=samples
    )
    checked, not_checked = ["every figure is a number and not below zero"], []
    hook = model.configuration.get("exposure_pre_analysis_module")
    locations = read_locations(inputs)
    missing: NotModelled | None = None
    if locations is None or hook:
        why = "the model changes the portfolio before it runs" if hook else "the portfolio has no location table"
        not_checked.append(f"insured values and the locations modelled: {why}")
    else:
        modelled = modelled_values(run / "input", locations)
        check_values(modelled, locations, converted.rate_of_row)
        missing = not_modelled(run / "input", locations, modelled)
        checked.append("no location is insured for more than the portfolio says, and there are no others")
    above = bool(hook) or bool(may_exceed_ground_up(inputs))
    checked += check_order(found.figures, above)
    checked += check_curves(found.figures, is_weighted=is_weighted)
    if above:
        not_checked.append("IL at most GUL: layers of an account pay together, or terms are stepped or changed")
    files = keep_output(run / "output", folder / "results")
    is_amplified = (run / "input" / "amplifications.bin").exists()
    most = None if is_amplified or hook else total_value(run / "input")
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
            periods=periods,
            samples=samples,
            most=most if perspective == Perspective.GUL or not above else None,
        )
    if missing is not None:
        files |= write_not_modelled(missing, folder)
    return {
        "figures": found.figures,
        "files": files,
        "currency": analysis["currency"],
        "provenance": {
            "model": model.name,
            "model_version": model.version,
            "model_folder": str(model.folder),
            "samples": samples,
            "losses_by": "samples" if samples else "means",
            "periods": periods,
            "weighted_periods": is_weighted,
            "occurrence_hash": occurrence_hash,
            "exchange_rates": dict(converted.rates),
            "not_modelled": dict(missing.reasons) if missing is not None else {},
            "not_modelled_totals": missing.totals() if missing is not None else None,
            "return_periods_beyond": found.beyond,
            "not_defined": found.not_defined,
            "checked": checked,
            "not_checked": not_checked,
            "settings": used,
        },
    }


def _base_settings(model: Model, named: str | None) -> dict[str, Any]:
    file = Path(named) if named else model.path("analysis_settings_json")
    return read_object(file) if file is not None and (named or file.is_file()) else {}


def _absolute(model: Model) -> dict[str, Any]:
    """Return the model's configuration for use in another folder: with absolute paths."""
    paths = path_entries()
    return {
        name: str((model.folder / value).resolve()) if name in paths and isinstance(value, str) and value else value
        for name, value in model.configuration.items()
        if name not in BROUGHT_BY_JOB and name != "analysis_settings_json"
    }
