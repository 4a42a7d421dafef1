"""Where Dagster keeps its own records and files: what ``dagster.yaml`` names under storage and logs.

The addresses come from :mod:`irp_pipeline.settings`, so that one choice of server and folder serves both the pipeline
and Dagster, and ``dagster.yaml`` names neither. (An ``env:`` in that file fails when the variable is unset, before any
code of ours could fall back.) Dagster's records are in a database of their own.

https://docs.dagster.io/deployment/oss/oss-instance-configuration
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psycopg2
import psycopg2.errors
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres.storage import DagsterPostgresStorage
from psycopg2 import sql
from sqlalchemy import URL

from irp_pipeline import settings
from irp_pipeline.files import make_folder
from irp_pipeline.helpers.connections import database_error


def dagster_files() -> Path:
    """Return the folder of Dagster's own files, below ``IRP_HOME``."""
    return settings.irp_home() / "dagster"


class Storage(DagsterPostgresStorage):
    """Dagster's runs, events and ticks in PostgreSQL, at the address that the settings give."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return that there is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the storage, and its database if this is the first use.

        Raises:
            DatabaseError: the server is away, or does not let us make the database.
        """
        url = settings.dagster_database_url()
        ensure_database(url)
        return cls(postgres_url=url.render_as_string(hide_password=False), inst_data=inst_data)


class ComputeLogs(LocalComputeLogManager):
    """What ops print, in files below ``IRP_HOME``."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return that there is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the log manager."""
        return cls(base_dir=str(make_folder(dagster_files() / "logs")), inst_data=inst_data)


class Artifacts(LocalArtifactStorage):
    """What Dagster itself keeps in files, below ``IRP_HOME``."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return that there is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the storage."""
        return cls(base_dir=str(make_folder(dagster_files())), inst_data=inst_data)


def ensure_database(url: URL) -> None:
    """Make the database that a URL names, unless it is there.

    Safe from any number of processes at once.

    Raises:
        DatabaseError: the server is away, or the user may not make databases; the message says how to go on.
    """
    try:
        _connect(url).close()
        return
    except psycopg2.OperationalError as error:
        refusal = error
    connection = None
    try:
        connection = _connect(settings.database_url())
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)", (url.database,))
            if cursor.fetchone() == (True,):
                raise database_error(refusal) from refusal
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(url.database or "")))
    except (psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
        pass  # somebody else was faster, which is as good
    except psycopg2.Error as error:
        problem = database_error(error)
        problem.add_note(
            f"Dagster keeps its records in the database {url.database!r}, which is not there. Ask for it to be made, "
            "or name another one in IRP_DAGSTER_DATABASE_URL"
        )
        raise problem from error
    finally:
        if connection is not None:
            connection.close()


def _connect(url: URL) -> psycopg2.extensions.connection:
    arguments = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
    connection: psycopg2.extensions.connection = psycopg2.connect(
        **arguments, connect_timeout=settings.connect_timeout_seconds()
    )
    return connection
