"""What a model says about itself: its configuration, its settings, its files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from irp_pipeline.engines.oasis.failures import OasisError

CONFIGURATION = "oasislmf.json"
BROUGHT_BY_JOB: Final = frozenset(
    {"model_run_dir", "oasis_files_dir", "keys_data_path", "keys_errors_path", "user_data_dir"}
    | {f"oed_{table}_csv" for table in ("location", "accounts", "info", "scope")}
)
"""Entries of a configuration that belong to a job, not to its model."""
SET_BY_PROJECT: Final = frozenset({"kernel_num_processes", "resource_monitor_interval"})
"""Entries of a configuration that a job sets, whatever the model says."""
# If only the CSV of such a table exists, Oasis LMF continues without the table, with exit status 0.
_TABLES = ("footprint", "vulnerability", "damage_bin_dict", "events", "occurrence", "returnperiods")


@dataclass(frozen=True)
class Model:
    """An Oasis model.

    Attributes:
        folder: the folder to which its paths are relative.
        configuration: the entries of its ``oasislmf.json``, overridden by those of the workbook.
        settings: its ``model_settings.json``; empty if it has none.
    """

    folder: Path
    configuration: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model's name in its settings, its version file or its lookup; else the folder's name."""
        named = [self.settings.get("model_supplier_id"), self.settings.get("model_name_id")]
        if any(named):
            return " ".join(str(part) for part in named if part)
        stated = self._of_lookup()
        told: list[Any] = [*self._version_file()[:2]] or [stated.get("supplier_id"), stated.get("model_id")]
        return " ".join(str(part) for part in told if part) or str(self.settings.get("name") or self.folder.name)

    @property
    def version(self) -> str | None:
        """The version that the model states, if any."""
        found = self.settings.get("model_version_id") or self.configuration.get("model_version_id")
        found = found or next(iter(self._version_file()[2:]), None) or self._of_lookup().get("model_version")
        return None if found is None else str(found)

    def path(self, entry: str) -> Path | None:
        """The file or folder that an entry of the configuration names, if any."""
        named = self.configuration.get(entry)
        return self.folder / str(named) if named else None

    def default(self, setting: str) -> str | None:
        """The default in the model's settings for one of the ``model_settings``, such as ``event_set``."""
        options = self.section("model_settings").get(setting)
        return options.get("default") if isinstance(options, Mapping) else None

    def section(self, name: str) -> Mapping[str, Any]:
        """A part of the model's settings, such as ``lookup_settings``; empty if there is none.

        Raises:
            OasisError: it is not a JSON object.
        """
        content = self.settings.get(name)
        if content is not None and not isinstance(content, Mapping):
            raise OasisError(f"{name} in the model's settings is no JSON object")
        return content or {}

    def _of_lookup(self) -> Mapping[str, Any]:
        """The model's name and version in the configuration of its lookup."""
        content = self.configuration.get("lookup_config")
        if (path := self.path("lookup_config_json")) is not None and path.is_file():
            content = read_object(path)
        stated = content.get("model") if isinstance(content, Mapping) else None
        return stated if isinstance(stated, Mapping) else {}

    def _version_file(self) -> list[str]:
        """``ModelVersion.csv``: supplier, name and version in one line."""
        path = self.path("model_version_csv")
        if path is None or not path.is_file():
            return []
        return [part.strip() for part in path.read_text(encoding="utf-8-sig").strip().split(",")]


def read_model(path: Path, options: Mapping[str, Any] | None = None) -> Model:
    """Read what a model says about itself.

    Args:
        path: its folder, or its configuration file.
        options: entries that replace those of the configuration file, or stand for a missing one.

    Raises:
        OasisError: a file of the model is missing or not a JSON object.
    """
    file = path / CONFIGURATION if path.is_dir() else path
    folder = file.parent
    configuration = read_object(file) if file.is_file() or not options else {}
    configuration |= dict(options or {})
    if configuration:
        configuration = under_present_names(configuration)
    settings_file = configuration.get("model_settings_json")
    settings = read_object(folder / settings_file) if settings_file else {}
    return Model(folder, configuration, settings)


def check_model(model: Model) -> None:
    """Refuse a model for which Oasis LMF would compute wrong figures without an error.

    Raises:
        OasisError: a table of the model exists only as CSV.
    """
    if model.configuration.get("model_storage_json") or model.configuration.get("model_custom_gulcalc"):
        return  # its tables are elsewhere, or in a format of its own
    data = model.path("model_data_dir")
    if data is None or not data.is_dir():
        raise OasisError(f"The model has no folder of data: model_data_dir of {CONFIGURATION} is {data}")
    names = {file.name for file in data.iterdir()}
    for table in _TABLES:
        as_text = sorted(name for name in names if name.startswith(table) and name.endswith(".csv"))
        others = [name for name in names if name.startswith(table) and not name.endswith(".csv")]
        if as_text and not others:
            raise OasisError(
                f"The model's folder {data} has {as_text[0]}, but not its binary form, without which Oasis LMF "
                "computes wrong losses: convert it with csvtobin"
            )


@lru_cache(maxsize=1)
def path_entries() -> frozenset[str]:
    """Return the entries of a model's configuration that are paths.

    Oasis LMF itself says which they are. Entries that a job sets, such as the portfolio, are left out.
    """
    from oasislmf.computation.run.model import RunModel

    paths = {parameter["name"] for parameter in RunModel.get_params() if parameter.get("is_path")}
    return frozenset(paths - BROUGHT_BY_JOB)


@lru_cache(maxsize=1)
def known_entries() -> frozenset[str]:
    """Return the names of all entries that Oasis LMF knows in a configuration."""
    from oasislmf.computation.run.model import RunModel

    return frozenset(str(parameter["name"]) for parameter in RunModel.get_params())


def under_present_names(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the present names of its entries, as Oasis LMF itself renames them."""
    from oasislmf.utils.defaults import get_config_profile

    former = get_config_profile().keys()
    if not former & configuration.keys():  # Oasis LMF takes a second to list the names that it knows
        return dict(configuration)
    from oasislmf.utils.inputs import update_config

    gone = former - known_entries()
    return {name: value for name, value in update_config(dict(configuration)).items() if name not in gone}


def unused_entries(model: Model) -> list[str]:
    """Say which entries of a model's configuration have no effect."""
    known = known_entries()
    unknown = [
        f"{name} of {CONFIGURATION}: Oasis LMF does not know it" for name in model.configuration if name not in known
    ]
    replaced = [
        f"{name} of {CONFIGURATION}: the job sets it itself"
        for name in model.configuration
        if name in SET_BY_PROJECT or (name in BROUGHT_BY_JOB and name != "analysis_settings_json")
    ]
    return sorted(unknown + replaced)


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        OasisError: the file is missing or contains something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise OasisError(f"There is no file {file}") from None
    except (OSError, ValueError) as error:
        raise OasisError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise OasisError(f"{file} holds no JSON object")
    return content
