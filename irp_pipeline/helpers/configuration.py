"""Configurations: what a cycle analyses, as read from its workbook.

The content of a workbook identifies a configuration: the same content changes nothing, whatever the file; different
content makes another configuration, and the earlier one is kept. :mod:`irp_pipeline.workbook` says what a workbook may
contain. Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline import store
from irp_pipeline.columns.paths import folder_at, place_of_folder
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.constants import ConfigurationStatus
from irp_pipeline.helpers.cycle_lookup import can_be_cycle_name
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.record import as_dict, record_of
from irp_pipeline.postgres.running import execute_command, execute_insert, execute_scalar, fetch_one, transaction
from irp_pipeline.settings import cycle_dir, models_folder, notebooks_folder

if TYPE_CHECKING:
    from irp_pipeline.workbook import Workbook

_SELECT = """
    SELECT f.id, f.cycle_id, f.file_name, f.file_hash, f.data_folder, f.status, f.configuration_data, f.error_message,
           f.created_ts, f.updated_ts, c.cycle_name
      FROM irp_configuration f JOIN irp_cycle c ON c.id = f.cycle_id
"""


ADOPTED: Final = "adopted:"
"""How the hash of a configuration of the old framework begins, which is not that of a file."""


class ConfigurationError(IrpError):
    """A cycle has no usable configuration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """What a cycle analyses.

    Attributes:
        id: the configuration's id.
        cycle_id: its cycle.
        file_name: of the workbook.
        file_hash: SHA-256 of the workbook's content.
        data_folder: the folder to which its file names are relative, on this machine.
        status: whether it is usable, and whether the cycle uses it.
        configuration_data: the workbook as plain data; None if it has mistakes.
        error_message: its mistakes.
        created_ts: when it was first read.
        updated_ts: when its record was last changed.
    """

    id: int
    cycle_id: int
    file_name: str
    file_hash: str
    data_folder: Path
    status: ConfigurationStatus
    configuration_data: Mapping[str, Any] | None
    error_message: str | None
    created_ts: datetime
    updated_ts: datetime

    @property
    def data(self) -> Mapping[str, Any]:
        """The workbook as plain data.

        Raises:
            ConfigurationError: it has mistakes.
        """
        if self.configuration_data is None:
            raise ConfigurationError(f"The workbook {self.file_name} has mistakes: {self.error_message}")
        return self.configuration_data

    def workbook(self) -> Workbook:
        """Return the workbook.

        Raises:
            ConfigurationError: it has mistakes, or is of the old framework.
            WorkbookError: this version cannot read it.
        """
        from irp_pipeline.workbook import Workbook

        if self.file_hash.startswith(ADOPTED):
            raise ConfigurationError(
                f"The configuration {self.file_name} is of the old framework, and its sheets are not those of "
                "irp-pipeline. Put a workbook in its place (irp config template), and run validate_configuration"
            )
        return Workbook.from_json(self.data)


@dataclass(frozen=True)
class LoadedWorkbook:
    """A workbook that was read and has no mistakes.

    Attributes:
        path: the file.
        file_hash: SHA-256 of its content, sheet by sheet.
        data: its content, as plain data.
    """

    path: Path
    file_hash: str
    data: dict[str, Any]


def load_configuration(cycle_id: int, path: Path) -> int:
    """Read a workbook and make it the active configuration of the cycle.

    Args:
        cycle_id: the cycle.
        path: the workbook. The file names in it are relative to its own folder; models may also be in
            :func:`irp_pipeline.settings.models_folder`.

    Returns:
        The id of the configuration. Workbooks with the same content have the same id.

    Raises:
        ConfigurationError: there is no such cycle, or no such file.
        WorkbookError: the workbook has mistakes. The message lists all of them; they are recorded with the
            configuration, whose status is ERROR. The cycle keeps the configuration it had.
        DatabaseError: the database refuses or is away.
    """
    return activate_configuration(cycle_id, check_configuration(cycle_id, path))


def check_configuration(cycle_id: int, path: Path) -> LoadedWorkbook:
    """Read a workbook for a cycle; :func:`activate_configuration` makes it the active configuration.

    Args and errors as for :func:`load_configuration`.
    """
    from irp_pipeline.workbook import WorkbookError, read_workbook, workbook_hash

    path = store.bring(path.absolute())
    if not path.is_file():
        raise ConfigurationError(
            f"There is no workbook {store.name_of_path(path) or path}. Put the cycle's configuration there, or write "
            f"an empty one with: irp config template {path}"
        )
    cycle_name = _require_cycle(cycle_id)
    file_hash = workbook_hash(path)
    try:
        workbook = read_workbook(path, cycle=cycle_name, models_dir=models_folder(), notebooks_dir=notebooks_folder())
    except WorkbookError as error:
        _keep_mistakes(cycle_id, path, file_hash, str(error))
        raise
    return LoadedWorkbook(path, file_hash, workbook.to_json())


def activate_configuration(cycle_id: int, workbook: LoadedWorkbook) -> int:
    """Make a workbook the active configuration of a cycle.

    Returns:
        The id of the configuration. Workbooks with the same content have the same id.

    Raises:
        ConfigurationError: there is no such cycle.
        DatabaseError: the database refuses or is away.
    """
    cycle_name = _require_cycle(cycle_id)
    place = place_of_folder(workbook.path.parent, cycle_dir(get_current_schema(), cycle_name))
    with transaction():
        # One change of configuration at a time for each cycle.
        execute_scalar("SELECT id FROM irp_cycle WHERE id = %s FOR NO KEY UPDATE", (cycle_id,))
        configuration_id = _row_of(cycle_id, workbook, place)
        execute_command(
            """
            UPDATE irp_configuration SET status = 'VALID', updated_ts = clock_timestamp()
             WHERE cycle_id = %s AND status = 'ACTIVE' AND id <> %s
            """,
            (cycle_id, configuration_id),
        )
        execute_command(
            """
            UPDATE irp_configuration
               SET status = 'ACTIVE', file_name = %s, file_hash = %s, data_folder = %s, error_message = NULL,
                   updated_ts = clock_timestamp()
             WHERE id = %s AND (status, file_name, file_hash, data_folder) IS DISTINCT FROM ('ACTIVE', %s, %s, %s)
            """,
            (*(found := (workbook.path.name, workbook.file_hash, place)), configuration_id, *found),
        )
    return configuration_id


def get_active_configuration(cycle_id: int) -> dict[str, Any] | None:
    """Return the active configuration of a cycle, or None.

    Returns:
        id, cycle_id, file_name, file_hash, data_folder (where relative file names start, on this machine), status,
        configuration_data (the workbook as a dict), error_message, created_ts, updated_ts.
    """
    return as_dict(find_active_configuration(cycle_id))


def find_active_configuration(cycle_id: int) -> Configuration | None:
    """Return the active configuration of a cycle, or None."""
    return _configuration(fetch_one(f"{_SELECT} WHERE f.cycle_id = %s AND f.status = 'ACTIVE'", (cycle_id,)))


def require_active_configuration(cycle_id: int) -> Configuration:
    """Return the active configuration of a cycle.

    Raises:
        ConfigurationError: no workbook has been validated for the cycle.
    """
    configuration = find_active_configuration(cycle_id)
    if configuration is None:
        raise ConfigurationError("No workbook has been validated for this cycle: run validate_configuration first")
    return configuration


def read_configuration(configuration_id: int) -> dict[str, Any] | None:
    """Return a configuration, or None; the columns of :func:`get_active_configuration`."""
    return as_dict(_configuration(fetch_one(f"{_SELECT} WHERE f.id = %s", (configuration_id,))))


def active_workbook(cycle_id: int) -> tuple[Workbook, Path]:
    """Return the workbook of a cycle's active configuration, and the folder to which its file names are relative.

    Raises:
        ConfigurationError: no workbook has been validated for the cycle.
    """
    configuration = require_active_configuration(cycle_id)
    return configuration.workbook(), configuration.data_folder


def part_of_workbook(data: Any, part: str) -> Any:
    """Return a part of a workbook as plain data, such as ``portfolios`` or ``metadata.currency``; None without it."""
    for name in part.split("."):
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def data_folder(cycle_name: str, stored: str) -> Path:
    """Return the folder to which the file names of a configuration are relative, on this machine.

    Args:
        cycle_name: the cycle, in the current schema.
        stored: the recorded folder: relative to the files of the cycle, else an absolute path or an address. It stays
            as it is for an adopted cycle whose name cannot be a folder, since there are no files of it here.
    """
    if not can_be_cycle_name(cycle_name):
        return Path(stored)
    return folder_at(cycle_dir(get_current_schema(), cycle_name), stored)


def _configuration(row: dict[str, Any] | None) -> Configuration | None:
    if row is None:
        return None
    folder = data_folder(row.pop("cycle_name"), row["data_folder"])
    return record_of(Configuration, row | {"data_folder": folder})


def _require_cycle(cycle_id: int) -> str:
    name: str | None = execute_scalar("SELECT cycle_name FROM irp_cycle WHERE id = %s", (cycle_id,))
    if name is None:
        raise ConfigurationError(f"There is no cycle with the id {cycle_id}")
    return name


def _row_of(cycle_id: int, workbook: LoadedWorkbook, place: str) -> int:
    """Return the row of a workbook: one with the same content, else that of this file with mistakes, else a new one."""
    same: int | None = execute_scalar(
        """
        SELECT id FROM irp_configuration
         WHERE cycle_id = %s AND configuration_data = %s ORDER BY status = 'ACTIVE' DESC, id DESC LIMIT 1
        """,
        (cycle_id, workbook.data),
    )
    if same is not None:
        return same
    mended: int | None = execute_scalar(
        """
        UPDATE irp_configuration SET configuration_data = %s
         WHERE id = (SELECT max(id) FROM irp_configuration
                      WHERE cycle_id = %s AND file_hash = %s AND configuration_data IS NULL)
        RETURNING id
        """,
        (workbook.data, cycle_id, workbook.file_hash),
    )
    if mended is not None:
        return mended
    new: int = execute_insert(
        """
        INSERT INTO irp_configuration (cycle_id, file_name, file_hash, data_folder, configuration_data)
        VALUES (%s, %s, %s, %s, %s)
        """,
        (cycle_id, workbook.path.name, workbook.file_hash, place, workbook.data),
    )
    return new


def _keep_mistakes(cycle_id: int, path: Path, file_hash: str, mistakes: str) -> None:
    with transaction():
        execute_scalar("SELECT id FROM irp_cycle WHERE id = %s FOR NO KEY UPDATE", (cycle_id,))
        known: int | None = execute_scalar(
            """
            SELECT max(id) FROM irp_configuration
             WHERE cycle_id = %s AND file_hash = %s AND configuration_data IS NULL
            """,
            (cycle_id, file_hash),
        )
        if known is None:
            known = execute_insert(
                "INSERT INTO irp_configuration (cycle_id, file_name, file_hash, data_folder) VALUES (%s, %s, %s, %s)",
                (cycle_id, path.name, file_hash, store.name_of_path(path.parent) or str(path.parent)),
            )
        execute_command(
            """
            UPDATE irp_configuration SET status = %s, error_message = %s, updated_ts = clock_timestamp() WHERE id = %s
            """,
            (ConfigurationStatus.ERROR, mistakes, known),
        )
