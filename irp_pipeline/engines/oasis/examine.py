"""What a model has and needs, and whether it runs: a trial on ten locations."""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from irp_pipeline.engines.model_check import Examination
from irp_pipeline.engines.oasis import STOCHASTIC
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.hashes import model_hash, named_files
from irp_pipeline.engines.oasis.model import Model, check_model, read_model, unused_entries
from irp_pipeline.engines.oasis.packages import lookup_columns, packages_needed
from irp_pipeline.exposure.portfolio import folder_hash
from irp_pipeline.files import write_atomically
from irp_pipeline.vocabulary import Perspective

TRIAL_LOCATIONS: Final = 10
_CHOICES: Final = ("event_set", "event_occurrence_id", "footprint_set", "vulnerability_set")
_POLL_SECONDS: Final = 0.5


def examine(path: Path, options: Mapping[str, Any] | None = None) -> Examination:
    """Say what a model has and needs. All its files are read.

    Args:
        path: its folder, or its configuration file.
        options: entries that replace those of the configuration file.

    Raises:
        OasisError: its configuration cannot be read, or names something that is not there.
    """
    model = read_model(path, options)
    needs = packages_needed(model)
    problems = [f"{need.package} is not installed: {need.remedy}" for need in needs if not need.is_there]
    try:
        check_model(model)
    except OasisError as error:
        problems.append(str(error))
    sizes = [file.stat().st_size for _, file in named_files(model)]
    return Examination(
        model.name,
        model.version,
        model.folder.resolve(),
        model_hash(path, options, recheck=True),
        (len(sizes), sum(sizes)),
        tuple(_perils(model)),
        _choices(model),
        tuple(lookup_columns(model)),
        tuple(needs),
        tuple(unused_entries(model)),
        tuple(problems),
    )


def trial(
    path: Path,
    options: Mapping[str, Any] | None = None,
    location: Path | None = None,
    tell: Callable[[str], None] = lambda doing: None,
) -> dict[str, Any]:
    """Run a model on ten locations, for ground-up losses with one sample.

    Args:
        path: its folder, or its configuration file.
        options: entries that replace those of the configuration file.
        location: an OED location table as CSV, whose first ten locations are taken; None means the one that the
            model's configuration names (``oed_location_csv``).
        tell: is called with what happens.

    Returns:
        The outcome of the job's program: figures, currency, files and provenance.

    Raises:
        OasisError: there are no locations, or the model does not run; the message is the reason in one line.
    """
    source = location or _own_locations(path, options)
    with tempfile.TemporaryDirectory(prefix="irp-model-check-") as temporary:
        folder = Path(temporary)
        currency = _first_locations(source, folder / "inputs")
        analysis = {
            "name": "model_check",
            "engine": STOCHASTIC,
            "currency": currency,
            "samples": 1,
            "perspectives": [Perspective.GUL],
            "return_periods": [],
            "period_losses": True,
            "model_options": dict(options or {}),
        }
        request = {
            "analysis": analysis,
            "model": str(path.resolve()),
            "exposure_hash": folder_hash(folder / "inputs"),
        }
        write_atomically(folder / "request.json", json.dumps({"request": request}))
        _run(folder, tell)
        try:
            outcome: dict[str, Any] = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            said = folder / "error.txt"
            reason = said.read_text(encoding="utf-8") if said.is_file() else "Its program ended without a result"
            raise OasisError(f"The model does not run on {source}: {reason}") from None
        return outcome


def _run(folder: Path, tell: Callable[[str], None]) -> None:
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the program is this project's own
            [sys.executable, "-m", "irp_pipeline.engines.oasis", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    told = ""
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
                return
            with suppress(FileNotFoundError):
                doing = (folder / "doing.txt").read_text(encoding="utf-8")
                if doing != told:
                    told = doing
                    tell(doing)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _own_locations(path: Path, options: Mapping[str, Any] | None) -> Path:
    model = read_model(path, options)
    named = model.path("oed_location_csv")
    if named is None or not named.is_file():
        where = f": there is no {named}" if named is not None else ""
        raise OasisError(f"The model brings no locations to try it on{where}. Name a location table of your own")
    return named


def _first_locations(source: Path, inputs: Path) -> str:
    """Write the first ten locations with the same currency; return the currency."""
    inputs.mkdir()
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            names = [name.strip().lower() for name in header]
            if "loccurrency" not in names:
                raise OasisError(f"{source} is no OED location table: it has no column LocCurrency")
            place = names.index("loccurrency")
            taken: list[list[str]] = []
            for row in rows:
                if len(row) == len(header) and (not taken or row[place] == taken[0][place]):
                    taken.append(row)
                if len(taken) == TRIAL_LOCATIONS:
                    break
    except (OSError, UnicodeDecodeError) as error:
        raise OasisError(f"{source} cannot be read: {error}") from None
    if not taken:
        raise OasisError(f"{source} has no locations")
    with (inputs / "location.csv").open("w", encoding="utf-8", newline="") as copy:
        csv.writer(copy).writerows([header, *taken])
    return taken[0][place]


def _perils(model: Model) -> list[str]:
    supported = model.section("lookup_settings").get("supported_perils") or []
    return [str(peril.get("id", peril)) if isinstance(peril, Mapping) else str(peril) for peril in supported]


def _choices(model: Model) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in _CHOICES:
        setting = model.section("model_settings").get(name)
        if isinstance(setting, Mapping):
            options = [str(option.get("id")) for option in setting.get("options") or [] if isinstance(option, Mapping)]
            found[name] = {"options": options, "default": setting.get("default")}
    return found
