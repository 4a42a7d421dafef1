"""What a model says about itself: its configuration, its settings, its files."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irp_pipeline.engines.oasis.failures import OasisError

CONFIGURATION = "oasislmf.json"
_READ_WHOLE_BYTES = 1_000_000
# Oasis LMF runs on without a table, and with exit status 0, if there is only its CSV.
_TABLES = ("footprint", "vulnerability", "damage_bin_dict", "events", "occurrence", "returnperiods")


@dataclass(frozen=True)
class Model:
    """An Oasis model.

    Attributes:
        folder: where its relative paths start.
        configuration: the entries of its ``oasislmf.json``, with those of the workbook over them.
        settings: its ``model_settings.json``; empty if it has none.
    """

    folder: Path
    configuration: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Supplier and name, as the model's settings give them; else the folder's name."""
        named = [self.settings.get("model_supplier_id"), self.settings.get("model_name_id")]
        return " ".join(str(part) for part in named if part) or self.folder.name

    @property
    def version(self) -> str | None:
        """The version that the model gives itself, if it does."""
        found = self.settings.get("model_version_id") or self.configuration.get("model_version_id")
        return str(found) if found is not None else self._version_from_file()

    def path(self, entry: str) -> Path | None:
        """The file or folder that an entry of the configuration names, if it names one."""
        named = self.configuration.get(entry)
        return self.folder / str(named) if named else None

    def default(self, setting: str) -> str | None:
        """The default that the model's settings give for one of the ``model_settings``, such as ``event_set``."""
        options = self.settings.get("model_settings", {}).get(setting)
        return options.get("default") if isinstance(options, Mapping) else None

    def _version_from_file(self) -> str | None:
        """``ModelVersion.csv``: supplier, name and version in one line."""
        path = self.path("model_version_csv")
        if path is None or not path.is_file():
            return None
        return path.read_text(encoding="utf-8-sig").strip().split(",")[-1].strip() or None


def read_model(path: Path, options: Mapping[str, Any] | None = None) -> Model:
    """Read what a model says about itself.

    Args:
        path: its folder, or its configuration file.
        options: entries that replace those of the configuration file, or stand for one that is not there.

    Raises:
        OasisError: a file of the model is missing or no JSON object.
    """
    file = path / CONFIGURATION if path.is_dir() else path
    folder = file.parent
    configuration = read_object(file) if file.is_file() or not options else {}
    configuration |= options or {}
    settings_file = configuration.get("model_settings_json")
    settings = read_object(folder / settings_file) if settings_file else {}
    return Model(folder, configuration, settings)


def check_model(model: Model) -> None:
    """Refuse a model on which Oasis LMF would run on to wrong figures.

    Raises:
        OasisError: a table of the model is there as CSV only.
    """
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


def model_hash(path: Path) -> str:
    """Digest what a model's losses depend on.

    Args:
        path: its folder, or its configuration file, whose folder is meant.

    Returns:
        A hexadecimal digest over the relative names of all its files and over their content; of files above 1 MB over
        size and time of change instead, since models can be many gigabytes.
    """
    folder = path if path.is_dir() else path.parent
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts):
        found = file.stat()
        digest.update(f"\0{file.relative_to(folder)}\0{found.st_size}\0".encode())
        if found.st_size <= _READ_WHOLE_BYTES:
            digest.update(file.read_bytes())
        else:
            digest.update(str(found.st_mtime_ns).encode())
    return digest.hexdigest()


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        OasisError: the file is missing or holds something else.
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
