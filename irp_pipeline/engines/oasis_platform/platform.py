"""The objects of a job at an Oasis Platform: its model, its portfolio, its analysis.

Each function finds its object by name or content before it changes anything, so it can be repeated after any
interruption.

Here: single steps. Not here: which step a job needs next (:mod:`irp_pipeline.engines.oasis_platform.driving`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.engines.oasis_platform import progress
from irp_pipeline.engines.oasis_platform.errors import NotThereError, PlatformError
from irp_pipeline.exposure.portfolio import exposure_hash, folder_hash, portfolio_files
from irp_pipeline.hashes import file_sha256

if TYPE_CHECKING:
    from irp_pipeline.engines.oasis_platform.connection import Connection

_FILES: Final = {
    "location.csv": "location_file",
    "account.csv": "accounts_file",
    "ri_info.csv": "reinsurance_info_file",
    "ri_scope.csv": "reinsurance_scope_file",
}
"""What the Platform calls each OED file."""
_NAMES: Final = {"supplier_id": "model_supplier", "model_id": "model_name", "version_id": "model_version"}
"""The three names of a model at the Platform, with the columns of the sheet Analyses."""
MODEL_COLUMNS: Final = tuple(_NAMES.values())
"""The columns of the sheet Analyses that name a model."""
_CSV: Final = "text/csv"
_STORED_NAME: Final = re.compile(r"\w+-(?P<digest>[0-9a-f]{64})\b.*")
_OTHER: Final = "0" * 64
"""Stands for the digest of a file that somebody else uploaded."""
_MOST_SHOWN: Final = 20


@dataclass(frozen=True)
class PlatformModel:
    """A model at the Platform.

    Attributes:
        id: the Platform's number of it.
        name: supplier and name.
        run_mode: V1 or V2: whether one worker runs an analysis, or several share it.
        settings: its ``model_settings.json``; empty if it has none.
    """

    id: int
    name: str
    run_mode: str
    settings: Mapping[str, Any]


def find_model(connection: Connection, analysis: Mapping[str, Any]) -> PlatformModel:
    """Return the model that a row of the sheet Analyses names.

    Raises:
        PlatformError: the Platform has no such model; the message lists those that it has.
    """
    wanted = {name: str(analysis[column]) for name, column in _NAMES.items()}
    known = connection.read(connection.models.get, list)
    found = [model for model in known if all(str(model.get(name)) == value for name, value in wanted.items())]
    if not found:
        shown = sorted(" ".join(str(model.get(name)) for name in _NAMES) for model in known)
        more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
        raise PlatformError(
            f"The Oasis Platform at {connection.url} has no model with the supplier {wanted['supplier_id']!r}, the "
            f"name {wanted['model_id']!r} and the version {wanted['version_id']!r}. Its models are: "
            f"{', '.join(shown[:_MOST_SHOWN]) or 'none'}{more}. Correct the columns of the model, or start a worker "
            "for it"
        )
    model = min(found, key=lambda one: int(one["id"]))
    try:
        settings = connection.read(lambda: connection.models.settings.get(model["id"]), dict)
    except NotThereError:
        settings = {}
    name = f"{wanted['supplier_id']} {wanted['model_id']}"
    return PlatformModel(int(model["id"]), name, str(model.get("run_mode") or "V1"), settings)


def model_packages(connection: Connection, model: PlatformModel) -> dict[str, Any]:
    """Return the versions of Oasis LMF and its packages that the model's worker last reported."""
    try:
        return connection.read(lambda: connection.models.versions.get(model.id), dict)
    except NotThereError:
        return {}


def find_analysis(connection: Connection, name: str) -> dict[str, Any] | None:
    """Return the analysis of that name with the lowest id; None if there is none.

    Others of that name that never began are deleted: they are copies, made when a reply was lost.
    """
    found = _named(connection, connection.analyses, name)
    for copy in found[1:]:
        if copy.get("status") == progress.NEW:
            try:
                connection.analyses.delete(copy["id"])
            except PlatformError:  # somebody else has just deleted it, or we may not: it does no harm
                continue
    return found[0] if found else None


def have_portfolio(connection: Connection, wanted: str, inputs: Path) -> int:
    """Return the id of the portfolio with an exposure; create it and upload its files as far as they are missing.

    Args:
        connection: the Platform.
        wanted: the hash of the exposure.
        inputs: the folder with its files; they need not be here if the Platform has them.

    Raises:
        PlatformError: a file is missing here that the Platform does not have; or the portfolio there holds others.
    """
    name = f"irp-{wanted}"
    if not _named(connection, connection.portfolios, name):
        connection.portfolios.create(name)
    for is_last_look in (False, True):
        portfolio, digests = _stored(connection, name)
        if exposure_hash(digests) == wanted:
            return int(portfolio["id"])
        if is_last_look:
            break
        if folder_hash(inputs) != wanted:
            raise PlatformError(
                "The files of the exposure are neither at the Oasis Platform nor on this machine as the job was "
                "handed over with: run the cycle again"
            )
        for path in portfolio_files(inputs).values():
            digest = file_sha256(path)
            if digests.get(path.stem) != digest:
                with path.open("rb") as file:
                    endpoint = getattr(connection.portfolios, _FILES[path.name])
                    endpoint.upload_byte(portfolio["id"], file, f"{path.stem}-{digest}.csv", _CSV)
    raise PlatformError(
        f"The portfolio {name} at the Oasis Platform at {connection.url} holds other files than the exposure: delete "
        "it there, and resubmit the job"
    )


def fetch_portfolio(connection: Connection, portfolio_id: int, inputs: Path) -> None:
    """Download the files of a portfolio, as they were uploaded, to a folder."""
    for file_name, field in _FILES.items():
        endpoint = getattr(connection.portfolios, field)
        try:
            connection.download(endpoint, portfolio_id, inputs / file_name)
        except NotThereError:
            (inputs / file_name).unlink(missing_ok=True)


def _stored(connection: Connection, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a portfolio, and the digests of its files by table, which are in the names that they were uploaded by."""
    found = _named(connection, connection.portfolios, name)
    if not found:
        raise PlatformError(f"The Oasis Platform at {connection.url} took the portfolio {name}, but does not have it")
    digests = {}
    for file_name, field in _FILES.items():
        table = Path(file_name).stem
        stored = str((found[0].get(field) or {}).get("name") or "")
        if stored and (match := _STORED_NAME.fullmatch(stored)):
            digests[table] = match["digest"]
        elif stored:
            digests[table] = _OTHER
    return found[0], digests


def _named(connection: Connection, endpoint: Any, name: str) -> list[dict[str, Any]]:
    """The objects of that name, those with low ids first. The Platform's filter disregards the case of letters."""
    found = connection.read(lambda: endpoint.search({"name": name}), list)
    return sorted((one for one in found if one.get("name") == name), key=lambda one: int(one["id"]))
