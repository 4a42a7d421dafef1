"""What a risk engine is given for a job: everything that its result depends on, with hashes and paths.

Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

from irp_pipeline import engines, settings, store
from irp_pipeline.columns import Folders
from irp_pipeline.columns.paths import folder_at, place_of_folder
from irp_pipeline.cycle_files import PORTFOLIOS, portfolio_key
from irp_pipeline.engines.inputs import DATA_FOLDER, hash_entry
from irp_pipeline.errors import IrpError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.portfolio import (
    exposure_hash,
    file_hashes,
    portfolio_files,
)
from irp_pipeline.hashes import value_hash
from irp_pipeline.helpers.artefact import Artefact, ArtefactError, list_artefacts, read_artefact
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.step import step_output
from irp_pipeline.postgres.parameters import json_value

FILES: Final = "files"
"""The parameter of a job whose files are not those of the configuration: ``inputs``, the OED files by name, each with
its key and hash; and ``data_folder``, the folder within the cycle's files of those that the analysis names."""
ATTRIBUTION: Final = "attribution"
"""The parameter of a job that says which state between two cycles it computes."""
REPEAT: Final = "repeat"
"""The parameter of a job that says which analysis it runs again with other draws."""
RESULTS_OF: Final = "results_of"
"""The parameter of a job that names the jobs of its batch's predecessor whose results it is given."""
_NOT_REQUESTED: Final = ("base", FILES, ATTRIBUTION, REPEAT, RESULTS_OF)
"""The parameters of a job that say where its files are, or what its figures are for: losses do not depend on them."""
_REINSURANCE: Final = "reinsurance"
"""The parameter of a job that names the portfolio whose reinsurance tables apply."""
QUEUE: Final = "queue"
"""The parameter of a job, and the entry of its request, that names a queue."""
REFUSED_PORTFOLIOS: Final = "refused portfolios"
"""The name of the portfolios with errors, and the reasons, in the output of the step that validates the exposure."""


class JobError(IrpError):
    """A job cannot be handed over or changed as asked."""


@dataclass(frozen=True)
class _Exposure:
    """The OED files of a portfolio by name, each with its key and hash, one hash of all of them, and their paths."""

    files: Mapping[str, Mapping[str, str]]
    hash: str
    paths: Mapping[OedTable, Path]

    def with_reinsurance_of(self, other: _Exposure) -> _Exposure:
        """Return this exposure with the reinsurance tables of another one."""
        tables = (OedTable.RI_INFO, OedTable.RI_SCOPE)
        names = {f"{table}.csv" for table in tables}
        files = {name: file for name, file in self.files.items() if name not in names}
        files |= {name: file for name, file in other.files.items() if name in names}
        paths = {table: path for table, path in self.paths.items() if table not in tables}
        paths |= {table: path for table, path in other.paths.items() if table in tables}
        digests = {Path(name).stem: file["sha256"] for name, file in files.items()}
        return _Exposure(files, exposure_hash(digests), paths)


class ResultsByName(Protocol):
    """The results that jobs can name; :class:`irp_pipeline.helpers.earlier_results.EarlierResults`."""

    def of(self, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
        """Return results by the name of the job, and their files as inputs of a request."""


class Requests:
    """Makes the requests of a batch's jobs. Each portfolio, model and settings file is read once.

    Args:
        cycle_id: the cycle.
        cycle_name: its name.
        data_folder: the folder to which the file names of its configuration are relative.
        portfolios: names of the configuration's portfolios.
        needs_portfolio: whether each job is for one of them; else it gets no exposure.
        earlier: the results of the batch's predecessor; None if it has none.
    """

    def __init__(
        self,
        cycle_id: int,
        cycle_name: str,
        data_folder: Path,
        portfolios: Collection[str],
        *,
        needs_portfolio: bool = True,
        earlier: ResultsByName | None = None,
    ) -> None:
        self._earlier = earlier
        self._cycle_name = cycle_name
        self._portfolios = portfolios
        self._needs_portfolio = needs_portfolio
        self._recorded: dict[str, list[Artefact]] = defaultdict(list)
        for artefact in list_artefacts(cycle_id, PORTFOLIOS).values():
            self._recorded[artefact.key.split("/")[1]].append(artefact)
        self._refused = refused_portfolios_of(cycle_id)
        self._exposures: dict[str, _Exposure | JobError] = {}
        self._cycle_folder = settings.cycle_dir(get_current_schema(), cycle_name)
        self._data_folder = place_of_folder(data_folder, self._cycle_folder)
        self._hashes: dict[tuple[str, str, Path, str], str] = {}

    def of(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an engine is given for a job.

        Args:
            parameters: those of the job.

        Returns:
            ``analysis``, the parameters; ``queue``, if it is not the usual one; if the jobs need a portfolio,
            ``inputs``, the OED files by name with their ``key`` and ``sha256``, and ``exposure_hash`` of those files;
            the hashes of the files that the engine declares and the analysis names (for Oasis LMF ``model_hash`` and
            ``settings_hash``), and ``data_folder``, where they are. :mod:`irp_pipeline.engines.inputs` finds them. If
            the job names results of the batch's predecessor, ``results`` by the name of the earlier job, with their
            files among the ``inputs``.

        Raises:
            JobError: the portfolio is unknown, has not been processed, cannot be read, or is not as recorded; or a file
                that the analysis names cannot be used.
        """
        analysis = dict(parameters)
        queue = analysis.pop(QUEUE, None)
        stated = analysis.get(FILES)
        for name in _NOT_REQUESTED:
            analysis.pop(name, None)
        request: dict[str, Any] = {"analysis": analysis} | ({} if queue is None else {QUEUE: queue})
        if self._needs_portfolio:
            exposure = (
                self._exposure(self._portfolio_name(parameters.get("portfolio")))
                if stated is None
                else self._stated_exposure(stated["inputs"])
            )
            if (other := parameters.get(_REINSURANCE)) is not None:
                exposure = exposure.with_reinsurance_of(self._exposure(self._portfolio_name(other)))
            request["inputs"] = exposure.files
            request["exposure_hash"] = exposure.hash
            self._check_portfolio(parameters, exposure)
        if self._earlier is not None and (names := parameters.get(RESULTS_OF)):
            request["results"], files = self._earlier.of(names)
            request["inputs"] = {**request.get("inputs", {}), **files}
        data_folder = self._data_folder if stated is None else stated[DATA_FOLDER]
        named = self._named_files(parameters, data_folder)
        return request | named | ({DATA_FOLDER: data_folder} if named else {})

    def _check_portfolio(self, parameters: Mapping[str, Any], exposure: _Exposure) -> None:
        """Refuse a job that asks its portfolio for what it lacks; the message has all reasons."""
        declaration = engines.declared(parameters)
        if declaration is None:
            return
        found = list(declaration.portfolio_checks(parameters, exposure.paths))
        if found:
            columns = ", ".join(dict.fromkeys(column for column, _ in found))
            reasons = "; ".join(message for _, message in found)
            raise JobError(f"The {columns} of the analysis cannot be used with its portfolio: {reasons}")

    def _portfolio_name(self, wanted: object) -> str:
        for portfolio in self._portfolios:
            if isinstance(wanted, str) and wanted.casefold() == portfolio.casefold():
                return portfolio
        raise JobError(
            f"The job is for the portfolio {wanted!r}, which its configuration does not have. The portfolios are: "
            + (", ".join(self._portfolios) or "none")
        )

    def _exposure(self, portfolio: str) -> _Exposure:
        if portfolio not in self._exposures:
            try:
                self._exposures[portfolio] = self._read_exposure(portfolio)
            except JobError as error:
                self._exposures[portfolio] = error
        found = self._exposures[portfolio]
        if isinstance(found, JobError):
            raise JobError(str(found)) from found
        return found

    def _stated_exposure(self, inputs: Mapping[str, Mapping[str, str]]) -> _Exposure:
        try:
            paths = {
                OedTable(Path(name).stem): store.fetch(store.key_of(self._cycle_folder / file["key"]), file["sha256"])
                for name, file in inputs.items()
            }
        except (store.MissingFileError, OSError) as error:
            raise JobError(f"The exposure of the job cannot be read: {error}") from error
        return _Exposure(inputs, exposure_hash({Path(name).stem: of["sha256"] for name, of in inputs.items()}), paths)

    def _read_exposure(self, portfolio: str) -> _Exposure:
        """Find the files of a portfolio: the recorded ones, after a check; else those that a person put there."""
        if portfolio in self._refused:
            raise JobError(f"The portfolio {portfolio!r} has errors. {self._refused[portfolio]}")
        folder = self._cycle_folder / portfolio_key(portfolio)
        recorded = self._recorded.get(portfolio, [])
        try:
            if recorded:
                files = tuple(read_artefact(self._cycle_name, artefact) for artefact in recorded)
                digests = {path.stem: artefact.sha256 for path, artefact in zip(files, recorded, strict=True)}
            else:
                files = tuple(portfolio_files(folder).values())
                digests = file_hashes(files)
                store.publish_all((path, store.key_of(path), digests[path.stem]) for path in files)
        except ArtefactError as error:
            raise JobError(f"The portfolio {portfolio!r} cannot be used. {error}") from error
        except OSError as error:
            raise JobError(f"The portfolio {portfolio!r} cannot be read: {error}") from error
        # A portfolio that the cycle built was checked against the needs of its engines, which may not need locations.
        if not recorded and OedTable.LOCATION.value not in digests:
            raise JobError(
                f"The portfolio {portfolio!r} has no location.csv in {folder}: run the Process stage of the cycle "
                f"{self._cycle_name!r} first"
            )
        named = {
            path.name: {"key": f"{portfolio_key(portfolio)}/{path.name}", "sha256": digests[path.stem]}
            for path in files
        }
        return _Exposure(named, exposure_hash(digests), {OedTable(path.stem): path for path in files})

    def _named_files(self, parameters: Mapping[str, Any], data_folder: str) -> dict[str, str]:
        """Return the hashes of the files that the job names.

        Args:
            parameters: of the job.
            data_folder: where the files are, as the request says it.
        """
        folders = Folders(folder_at(self._cycle_folder, data_folder), settings.models_folder())
        declaration = engines.declared(parameters)
        if declaration is None:  # the handover reports that there is no such engine
            return {}
        rules = chain(declaration.columns.broken_rules(parameters), declaration.checks(parameters, folders))
        for column, message in rules:
            raise JobError(f"The {column} of the analysis cannot be used: {message}")
        found: dict[str, str] = {}
        for column in declaration.files:
            named = parameters.get(column)
            if not named:
                continue
            try:
                path = folders.find(str(named))
                found[hash_entry(column)] = self._hash_of(declaration.name, column, path, parameters)
            except (IrpError, OSError) as error:
                raise JobError(f"The {column} of the analysis cannot be used: {error}") from error
        return found

    def _hash_of(self, engine: str, column: str, path: Path, parameters: Mapping[str, Any]) -> str:
        file = engines.ENGINES.declared()[engine].files[column]
        key = engine, column, path, value_hash(json_value({name: parameters.get(name) for name in file.depends_on}))
        if key not in self._hashes:
            self._hashes[key] = file.hash(path, parameters)
        return self._hashes[key]


def places() -> str:
    """Return, as SQL, the entries of a request that say where something is; the content is in the hashes.

    Requests of earlier versions have the paths of named files.
    """
    return "ARRAY[" + ", ".join(f"'{name}'" for name in ("inputs", QUEUE, DATA_FOLDER, *engines.named_files())) + "]"


def refused_portfolios_of(cycle_id: int) -> dict[str, str]:
    """Return which portfolios of a cycle have errors, with the reason: no analysis runs on them.

    Args:
        cycle_id: the cycle; one whose exposure was not validated refuses none.
    """
    output = step_output(cycle_id, "process.validate_exposure")
    refused: dict[str, str] = output.get(REFUSED_PORTFOLIOS) or {}
    return refused
