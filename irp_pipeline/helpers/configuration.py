"""Configurations: what a cycle analyses, as read from its workbook.

The file's hash names a configuration: the same file again changes nothing, another file is another configuration, and
the earlier one is kept. What a workbook may say is the business of :mod:`irp_pipeline.helpers.workbook`. Works in the
schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.constants import ConfigurationStatus
from irp_pipeline.helpers.database import DatabaseError, execute_command, execute_scalar, fetch_one, transaction
from irp_pipeline.settings import models_folder

if TYPE_CHECKING:
    from irp_pipeline.helpers.workbook import Workbook

_FOREIGN_KEY_VIOLATION = "23503"

_COLUMNS = """
    id, cycle_id, file_name, file_hash, data_folder, status, configuration_data, error_message, created_ts, updated_ts
"""


class ConfigurationError(IrpError):
    """A cycle has no usable configuration."""


def load_configuration(cycle_id: int, path: Path) -> int:
    """Read a workbook and make it the configuration that the cycle works with.

    Args:
        cycle_id: the cycle.
        path: the workbook. The file names in it start from its own folder; models may also be in
            :func:`irp_pipeline.settings.models_folder`.

    Returns:
        The id of the configuration. The same file again has the same id.

    Raises:
        ConfigurationError: there is no such cycle, or no such file.
        WorkbookError: the workbook has mistakes; all of them are in the message and kept with the configuration,
            whose status is ERROR. The cycle goes on with the configuration it had.
        DatabaseError: the database refuses or is away.
    """
    from irp_pipeline.helpers.workbook import WorkbookError, read_workbook, workbook_hash

    if not path.is_file():
        raise ConfigurationError(
            f"There is no workbook {path}. Put the cycle's configuration there, or write an empty one with: "
            f"irp config template {path}"
        )
    path = path.absolute()
    configuration_id = _register(cycle_id, path, workbook_hash(path))
    try:
        workbook = read_workbook(path, cycle=_cycle_name(cycle_id), models_dir=models_folder())
    except WorkbookError as error:
        execute_command(
            """
            UPDATE irp_configuration SET status = %s, error_message = %s, updated_ts = clock_timestamp()
             WHERE id = %s AND status <> 'ACTIVE'
            """,
            (ConfigurationStatus.ERROR, str(error), configuration_id),
        )
        raise
    _activate(cycle_id, configuration_id, path, workbook.to_json())
    return configuration_id


def get_active_configuration(cycle_id: int) -> dict[str, Any] | None:
    """Return the configuration that a cycle works with, or None.

    Returns:
        id, cycle_id, file_name, file_hash, data_folder (what its file names start from), status, configuration_data
        (the workbook as a dict), error_message, created_ts, updated_ts.
    """
    return fetch_one(
        f"SELECT {_COLUMNS} FROM irp_configuration WHERE cycle_id = %s AND status = 'ACTIVE'",  # noqa: S608
        (cycle_id,),
    )


def require_active_configuration(cycle_id: int) -> dict[str, Any]:
    """Return the configuration that a cycle works with; the columns of :func:`get_active_configuration`.

    Raises:
        ConfigurationError: no workbook has been validated for the cycle.
    """
    configuration = get_active_configuration(cycle_id)
    if configuration is None:
        raise ConfigurationError("No workbook has been validated for this cycle: run validate_configuration first")
    return configuration


def read_configuration(configuration_id: int) -> dict[str, Any] | None:
    """Return a configuration, or None; the columns of :func:`get_active_configuration`."""
    return fetch_one(f"SELECT {_COLUMNS} FROM irp_configuration WHERE id = %s", (configuration_id,))  # noqa: S608


def active_workbook(cycle_id: int) -> tuple[Workbook, Path]:
    """Return the workbook of the configuration that a cycle works with, and the folder its file names start from.

    Raises:
        ConfigurationError: no workbook has been validated for the cycle.
    """
    from irp_pipeline.helpers.workbook import Workbook

    configuration = require_active_configuration(cycle_id)
    return Workbook.model_validate(configuration["configuration_data"]), Path(configuration["data_folder"])


def _cycle_name(cycle_id: int) -> str | None:
    name: str | None = execute_scalar("SELECT cycle_name FROM irp_cycle WHERE id = %s", (cycle_id,))
    return name


def _register(cycle_id: int, path: Path, file_hash: str) -> int:
    try:
        execute_command(
            """
            INSERT INTO irp_configuration (cycle_id, file_name, file_hash, data_folder) VALUES (%s, %s, %s, %s)
            ON CONFLICT (cycle_id, file_hash) DO NOTHING
            """,
            (cycle_id, path.name, file_hash, str(path.parent)),
        )
    except DatabaseError as error:
        if error.sqlstate == _FOREIGN_KEY_VIOLATION:
            raise ConfigurationError(f"There is no cycle with the id {cycle_id}") from error
        raise
    configuration_id: int = execute_scalar(
        "SELECT id FROM irp_configuration WHERE cycle_id = %s AND file_hash = %s", (cycle_id, file_hash)
    )
    return configuration_id


def _activate(cycle_id: int, configuration_id: int, path: Path, data: dict[str, Any]) -> None:
    with transaction():
        # One change of configuration at a time for each cycle.
        execute_scalar("SELECT id FROM irp_cycle WHERE id = %s FOR NO KEY UPDATE", (cycle_id,))
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
               SET status = 'ACTIVE', file_name = %s, data_folder = %s, configuration_data = %s, error_message = NULL,
                   updated_ts = clock_timestamp()
             WHERE id = %s
               AND (status, file_name, data_folder, configuration_data) IS DISTINCT FROM ('ACTIVE', %s, %s, %s)
            """,
            (path.name, str(path.parent), data, configuration_id, path.name, str(path.parent), data),
        )
