"""The job of a stochastic analysis: a model's losses by simulated year."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irp_pipeline.engines.oasis.analysis import analysis_settings
from irp_pipeline.engines.oasis.checks import check_currency
from irp_pipeline.engines.oasis.command import run_oasislmf
from irp_pipeline.engines.oasis.compilation import (
    compile_parts,
    parts_of_stochastic,
)
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
from irp_pipeline.engines.oasis.multiplier import COLUMNS as MULTIPLIERS
from irp_pipeline.engines.oasis.outcome import read_outcome
from irp_pipeline.engines.oasis.packages import check_packages
from irp_pipeline.engines.oasis.portfolio import check_identifiers, currencies, read_locations
from irp_pipeline.engines.oasis.rates import conversion_of
from irp_pipeline.engines.oasis.segment_factors import by_segment
from irp_pipeline.engines.oasis.segments import allocation_rules
from irp_pipeline.engines.program import say
from irp_pipeline.files import write_atomically


def stochastic_outcome(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    analysis, inputs, run = request["analysis"], folder / "inputs", folder / "run"
    options = analysis.get("model_options") or {}
    model = read_model(Path(request["model"]), options)
    ignored = unused_entries(model)
    check_model(model)
    check_packages(model)
    wanted = str(analysis["currency"])
    converted = conversion_of(folder, request, currencies(inputs), wanted)
    reporting = model.configuration.get("reporting_currency")
    if converted:
        pass  # the run is asked for what it converted
    elif reporting:
        check_currency({"reporting_currency": {str(reporting)}}, wanted, "The model's configuration")
    else:
        check_currency(currencies(inputs), wanted, "The portfolio")
    check_identifiers(inputs, analysis["perspectives"])
    if not model.configuration.get("exposure_pre_analysis_module"):
        check_locations(read_locations(inputs))
    rules = allocation_rules(model.configuration) if analysis.get("segments") else None
    given = analysis_settings(analysis, model, _base_settings(model, request.get("settings")))
    multiplied, unused = by_segment(folder, request, model)
    write_atomically(folder / "analysis_settings.json", json.dumps(given.chosen, indent=1))
    write_atomically(folder / "oasislmf.json", json.dumps(_absolute(model) | converted | multiplied, indent=1))
    processes = int(request["processes"])
    arguments = ["-C", "oasislmf.json", "-a", "analysis_settings.json", "-r", str(run), "-n", str(processes)]
    for name, flag in OED_FLAGS.items():
        if (inputs / name).exists():
            arguments += [flag, f"inputs/{name}"]
    parts = parts_of_stochastic(
        analysis["perspectives"],
        bool(analysis.get("event_losses")),
        bool(analysis.get("period_losses")),
        multiplied=any(analysis.get(column) is not None for column in MULTIPLIERS),
    )
    notes = compile_parts(folder, parts)
    command = ["model", "run", *arguments, "--resource-monitor-interval", "9999"]
    run_oasislmf(folder, "computes the losses", command, run)
    say(folder, "checks the losses")
    hook = model.configuration.get("exposure_pre_analysis_module")
    outcome = read_outcome(folder, run, analysis, given.return_periods, changes_portfolio=bool(hook))
    shutil.rmtree(run)
    provenance = outcome["provenance"]
    provenance["model"] = model.name
    provenance["model_version"] = model.version
    provenance["model_folder"] = str(model.folder)
    provenance["processes"] = processes
    if rules is not None:
        provenance["allocation_rules"] = rules
    provenance["notes"] = notes
    provenance["ignored"] = [*ignored, *given.ignored, *unused]
    return outcome


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
