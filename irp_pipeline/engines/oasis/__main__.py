"""The program of a job: ``python -m irp_pipeline.engines.oasis FOLDER``.

It prepares what Oasis LMF reads, runs it as from a command line, and writes the figures to ``outcome.json``, or to
``error.txt`` why there are none. Oasis LMF changes the folder and the logging of the process it runs in, and its tools
are killed as a group when one fails: hence a process of its own, in the session of the job.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.engines.oasis import DETERMINISTIC
from irp_pipeline.engines.oasis.analysis import Settings, analysis_settings
from irp_pipeline.engines.oasis.checks import (
    check_currency,
    check_curves,
    check_deterministic,
    check_order,
    check_period_losses,
    check_values,
)
from irp_pipeline.engines.oasis.compilation import (
    compile_parts,
    compiled_folder,
    parts_of_deterministic,
    parts_of_stochastic,
)
from irp_pipeline.engines.oasis.deterministic import location_table, read_deterministic
from irp_pipeline.engines.oasis.failures import OasisError, reason
from irp_pipeline.engines.oasis.figures import deterministic_figures, occurrence, stochastic_figures
from irp_pipeline.engines.oasis.model import (
    BROUGHT_BY_JOB,
    Model,
    check_model,
    path_entries,
    read_model,
    read_object,
    unused_entries,
)
from irp_pipeline.engines.oasis.options import options_problem
from irp_pipeline.engines.oasis.packages import check_packages
from irp_pipeline.engines.oasis.portfolio import (
    Locations,
    check_identifiers,
    check_repeated,
    currencies,
    may_exceed_ground_up,
    read_locations,
    write_accounts_without_terms,
    write_some_locations,
)
from irp_pipeline.engines.oasis.run_facts import (
    NotModelled,
    as_not_modelled,
    conversion,
    modelled_values,
    not_modelled,
    settings_used,
    total_value,
)
from irp_pipeline.engines.program import end_with_supervisor, say
from irp_pipeline.errors import IrpError
from irp_pipeline.exposure.portfolio import folder_hash
from irp_pipeline.files import write_atomically
from irp_pipeline.vocabulary import Perspective

_ERRORS: Final = "errors.txt"
_NOTHING_INSURED: Final = (
    "No location has an insured value of a coverage that is looked at, so there is nothing to lose: fill BuildingTIV, "
    "OtherTIV, ContentsTIV or BITIV, or leave the analysis out"
)
_SAFE_PATH: Final = re.compile(r"[A-Za-z0-9/._+-]+")
"""A path that a shell takes as it is."""
_ORD_NAMES: Final = {"splt": "plt_sample", "selt": "elt_sample", "melt": "elt_moment"}
"""The tables whose files Oasis LMF names otherwise than its settings do."""
_OED_FLAGS: Final = {"location.csv": "-x", "account.csv": "-y", "ri_info.csv": "-i", "ri_scope.csv": "-s"}


def main(folder: Path) -> int:
    """Run the job of a folder; return the exit status."""
    end_with_supervisor()
    try:
        outcome = _run(folder, read_object(folder / "request.json")["request"])
    except (IrpError, OSError) as error:
        write_atomically(folder / "error.txt", " ".join(str(error).split()))
        return 1
    except Exception as error:
        traceback.print_exc()
        said = " ".join(f"{type(error).__name__}: {error}".split())
        write_atomically(folder / "error.txt", f"The program of the job failed: {said}; the job's log says where")
        return 1
    write_atomically(folder / "outcome.json", json.dumps(outcome, indent=1))
    return 0


def _run(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    analysis = request["analysis"]
    inputs = folder / "inputs"
    if folder_hash(inputs) != request["exposure_hash"]:
        raise OasisError("The exposure was replaced while the job was being submitted: run the cycle again")
    if problem := options_problem(analysis):
        raise OasisError(f"model_options: {problem}")
    _check_tables(inputs, analysis["perspectives"])
    is_deterministic = analysis["engine"] == DETERMINISTIC
    outcome = _deterministic(folder, analysis) if is_deterministic else _stochastic(folder, request)
    outcome["provenance"] |= {
        "engine": "Oasis LMF",
        "engine_version": _version("oasislmf"),
        "ods_tools_version": _version("ods_tools"),
        "python": platform.python_version(),
        "host": platform.node(),
        "exposure_hash": request["exposure_hash"],
        "seconds": round(time.monotonic() - began, 1),
    }
    return outcome


def _check_tables(inputs: Path, perspectives: Collection[str]) -> None:
    """Refuse losses for which the portfolio has no terms."""
    if set(perspectives) != {Perspective.GUL} and not (inputs / "account.csv").is_file():
        raise OasisError("Insured and net losses need an account table, and the portfolio has none")
    if Perspective.RI in perspectives and not (
        (inputs / "ri_info.csv").is_file() and (inputs / "ri_scope.csv").is_file()
    ):
        raise OasisError("Net losses need the reinsurance tables ri_info and ri_scope, and the portfolio lacks them")


def _check_locations(locations: Locations | None) -> None:
    """Refuse locations whose values contradict each other, and a table without any value."""
    if locations is not None:
        check_repeated(locations)
        if not any(locations.value(row) for row in locations.distinct()):
            raise OasisError(_NOTHING_INSURED)


def _deterministic(folder: Path, analysis: Mapping[str, Any]) -> dict[str, Any]:
    inputs, run = folder / "inputs", folder / "run"
    options = dict(analysis.get("model_options") or {})
    whole = read_locations(inputs)
    if whole is None:
        raise OasisError("Deterministic losses need a location table, and the portfolio has none")
    _check_locations(whole)
    check_currency(currencies(inputs), analysis["currency"], "The portfolio", can_convert=False)
    factors = [float(factor) for factor in analysis["loss_factor"]]
    perils = options.get("model_perils_covered")
    uncovered = _uncovered(whole, perils) if perils else set()
    rows = [row for row in range(len(whole.ids)) if row not in uncovered]
    locations = whole.only(rows, options.get("supported_oed_coverage_types"))
    if perils and not rows:
        raise OasisError(f"No location is insured for a peril of model_perils_covered ({', '.join(perils)})")
    if not any(locations.value(row) for row in locations.distinct()):
        raise OasisError(_NOTHING_INSURED)
    source = _source(folder, analysis, locations, uncovered)
    configuration = {"print_summary": False, "portfolio_complexity": False, **options}
    write_atomically(folder / "oasislmf.json", json.dumps(configuration))
    notes = compile_parts(folder, parts_of_deterministic())
    arguments = ["-C", "oasislmf.json", "-s", str(source), "-r", str(run), "-o", "loc", "-l"]
    _oasislmf(folder, "computes the losses", ["exposure", "run", *arguments, *map(str, factors)], run)
    say(folder, "checks the losses")
    losses = read_deterministic(run, locations, factors)
    above = may_exceed_ground_up(inputs)
    checked = check_deterministic(losses, locations, above)
    figures = deterministic_figures(losses, analysis["perspectives"])
    checked += check_order(figures, bool(above))
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
    )
    files = {"losses": "results/losses.parquet"} | _write_not_modelled(missing, folder)
    _write_table(location_table(losses, locations), folder / files["losses"])
    shutil.rmtree(run)
    return {
        "figures": figures,
        "files": files,
        "currency": analysis["currency"],
        "provenance": {
            "model": None,
            "model_version": None,
            "settings": {"loss_factor": factors, **options},
            "not_modelled": dict(missing.reasons),
            "not_modelled_totals": missing.totals(),
            "checked": checked,
            "notes": notes,
            "processes": 1,
        },
    }


def _source(folder: Path, analysis: Mapping[str, Any], locations: Locations, uncovered: Collection[int]) -> Path:
    """The folder of OED files for Oasis LMF.

    It refuses a location of whose perils none is covered, and needs an account table for ground-up losses too.
    """
    inputs = folder / "inputs"
    has_accounts = (inputs / "account.csv").is_file()
    if has_accounts and not uncovered:
        return inputs
    source = folder / "source"
    write_some_locations(inputs, set(locations.rows), source, with_tags=has_accounts)
    if not has_accounts:
        write_accounts_without_terms(locations, analysis["currency"], source / "account.csv")
    for name in _OED_FLAGS:
        if name != "location.csv" and (inputs / name).is_file():
            shutil.copyfile(inputs / name, source / name)
    return source


def _uncovered(locations: Locations, perils: Sequence[str]) -> set[int]:
    """The rows of locations of whose perils none is covered."""
    from oasislmf.utils.peril import get_peril_groups_df

    members = {
        str(of): {str(peril) for peril in part["peril_id"]}
        for of, part in get_peril_groups_df().groupby("peril_group_id")
    }

    def single(groups: Sequence[str]) -> set[str]:
        return {peril for group in groups for peril in members.get(group.strip(), {group.strip()})}

    covered = single(perils)
    return {row for row, of in enumerate(locations.perils) if not single(of.split(";")) & covered}


def _stochastic(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
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
        _check_locations(read_locations(inputs))
    given = analysis_settings(analysis, model, _base_settings(model, request.get("settings")))
    write_atomically(folder / "analysis_settings.json", json.dumps(given.chosen, indent=1))
    write_atomically(folder / "oasislmf.json", json.dumps(_absolute(model), indent=1))
    processes = settings.job_processes()
    arguments = ["-C", "oasislmf.json", "-a", "analysis_settings.json", "-r", str(run), "-n", str(processes)]
    for name, flag in _OED_FLAGS.items():
        if (inputs / name).exists():
            arguments += [flag, f"inputs/{name}"]
    parts = parts_of_stochastic(
        analysis["perspectives"], bool(analysis.get("event_losses")), bool(analysis.get("period_losses"))
    )
    notes = compile_parts(folder, parts)
    command = ["model", "run", *arguments, "--resource-monitor-interval", "9999"]
    _oasislmf(folder, "computes the losses", command, run)
    say(folder, "checks the losses")
    outcome = _stochastic_outcome(folder, analysis, model, given)
    shutil.rmtree(run)
    provenance = outcome["provenance"]
    provenance["processes"] = processes
    provenance["notes"] = notes
    provenance["ignored"] = [*ignored, *given.ignored]
    return outcome


def _stochastic_outcome(folder: Path, analysis: Mapping[str, Any], model: Model, given: Settings) -> dict[str, Any]:
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
    files = _keep_output(run / "output", folder / "results")
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
        files |= _write_not_modelled(missing, folder)
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
    """Return the model's configuration for another folder: with absolute paths."""
    paths = path_entries()
    return {
        name: str((model.folder / value).resolve()) if name in paths and isinstance(value, str) and value else value
        for name, value in model.configuration.items()
        if name not in BROUGHT_BY_JOB and name != "analysis_settings_json"
    }


def _oasislmf(folder: Path, doing: str, arguments: Sequence[str], run: Path) -> None:
    """Run a command of Oasis LMF in the job's folder and session.

    Raises:
        OasisError: it is not installed, or it failed; the message is its reason in one line.
    """
    say(folder, doing)
    command = Path(sys.executable).with_name("oasislmf")
    if not command.exists():
        raise OasisError("Oasis LMF is not installed. Run: pip install 'irp-pipeline[oasis]'")
    errors_file = folder / _ERRORS
    printed: list[str] = []
    with errors_file.open("wb") as errors, _temporary_folder(folder) as temporary:
        environment = os.environ | {
            "PATH": f"{command.parent}{os.pathsep}{os.environ.get('PATH', '')}",  # its kernel calls tools by name
            "NUMBA_CACHE_DIR": str(compiled_folder()),
            "OASIS_TMPDIR": str(temporary),
            "TMPDIR": str(temporary),
            "PYTHONWARNINGS": "ignore",
        }
        process = subprocess.Popen(  # noqa: S603 - the command is the one installed with this project
            [str(command), *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
        )
        for line in process.stdout or ():
            print(line, end="", flush=True)
            printed.append(line)
        status = process.wait()
    said = errors_file.read_text(encoding="utf-8", errors="replace")
    if said.strip():
        print(said, flush=True)
    if status != 0:
        raise OasisError(reason("".join(printed), said, run))


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """Make a folder for what a run needs for a while, in the job's folder; yield a path to it.

    Oasis LMF writes the path into a shell script without quotation marks, also behind ``rm -R -f``. A path with a blank
    or another sign of the shell would let the run fail, and might remove a folder of somebody's. Then it gets a link.
    """
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    if _SAFE_PATH.fullmatch(str(temporary)):
        yield temporary
    else:
        link = Path(tempfile.gettempdir()) / f"irp-{uuid.uuid4().hex}"
        if not _SAFE_PATH.fullmatch(str(link)):
            raise OasisError(
                f"Oasis LMF cannot work in {folder} nor in {link.parent}: their paths hold other signs than letters, "
                "digits and . _ - +. Set TMPDIR to a folder whose path has none"
            )
        link.symlink_to(temporary, target_is_directory=True)
        try:
            yield link
        finally:
            link.unlink()
    shutil.rmtree(temporary, ignore_errors=True)


def _keep_output(output: Path, results: Path) -> dict[str, str]:
    """Move the files of a run to where they stay; return them by name, such as ``gul_ept`` or ``il_plt_sample``.

    Those of further summaries, by OED fields, have the summary's number in their names: ``gul_S2_ept``.
    """
    results.mkdir(exist_ok=True)
    files = {}
    for file in sorted(output.glob("*_S*_*.parquet")):
        perspective, summary, kind = file.stem.split("_", 2)
        prefix = perspective if summary == "S1" else f"{perspective}_{summary}"
        file.replace(results / file.name)
        if kind != "summary-info" or summary != "S1":
            files[f"{prefix}_{_ORD_NAMES.get(kind, kind)}"] = f"results/{file.name}"
    for file in output.glob("*summary-info*"):
        file.replace(results / file.name)
    return files


def _write_not_modelled(missing: NotModelled, folder: Path) -> dict[str, str]:
    """Write the table of what was not modelled, if there is something; return its name and place."""
    if not missing.reasons:
        return {}
    _write_table(missing.table, folder / "results" / "not_modelled.parquet")
    return {"not_modelled": "results/not_modelled.parquet"}


def _write_table(table: Any, target: Path) -> None:
    import pyarrow.parquet as pq

    target.parent.mkdir(exist_ok=True)
    pq.write_table(table, target)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
