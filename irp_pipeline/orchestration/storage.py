"""Where Dagster keeps its own records and files: the classes that ``dagster.yaml`` names under storage and logs.

The addresses come from :mod:`irp_pipeline.settings`, so that the pipeline and Dagster share one choice of server and
folder, and ``dagster.yaml`` names neither. (An ``env:`` in that file fails if the variable is unset, before any code of
ours could use a default.) Dagster's records are in their own database.

https://docs.dagster.io/deployment/oss/oss-instance-configuration
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg2
import psycopg2.errors
from dagster import DagsterInstance
from dagster_postgres.storage import DagsterPostgresStorage
from psycopg2 import sql
from sqlalchemy import URL, make_url

from irp_pipeline import settings
from irp_pipeline.errors import IrpError
from irp_pipeline.files import make_folder
from irp_pipeline.orchestration.internals import ConfigurableClassData, LocalArtifactStorage
from irp_pipeline.postgres.errors import DatabaseError, database_error

# Any number, but the same in every process.
_DECISIONS_LOCK = 7_391_645_221


def dagster_files() -> Path:
    """Return the folder of Dagster's own files, below ``IRP_HOME``."""
    return settings.irp_home() / "dagster"


class Storage(DagsterPostgresStorage):
    """Dagster's runs, events and ticks in PostgreSQL, at the address from the settings."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty schema: there is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the storage, and its database if this is the first use.

        Raises:
            DatabaseError: the server is away, or refuses to make the database.
        """
        url = settings.dagster_database_url()
        ensure_database(url)
        return cls(postgres_url=url.render_as_string(hide_password=False), inst_data=inst_data)


class Artifacts(LocalArtifactStorage):
    """What Dagster itself keeps in files, below ``IRP_HOME``."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty schema: there is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the storage."""
        return cls(base_dir=str(make_folder(dagster_files())), inst_data=inst_data)


def ensure_database(url: URL) -> None:
    """Make the database that a URL names, unless it exists.

    Safe for any number of processes at once.

    Raises:
        DatabaseError: the server is away, or the user may not make databases; the message says what to do.
    """
    try:
        connect(url).close()
        return
    except psycopg2.OperationalError as error:
        refusal = records_error(error, url)
    connection = None
    try:
        connection = connect(settings.database_url())
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)", (url.database,))
            if cursor.fetchone() == (True,):
                raise refusal
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(url.database or "")))
    except (psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
        pass  # another process was faster, which is just as good
    except psycopg2.Error as error:
        problem = database_error(error)
        problem.add_note(
            f"Dagster keeps its records in the database {url.database!r}, which is not there. Ask for it to be made, "
            "or name another one in IRP_DAGSTER_DATABASE_URL, which may be that of the pipeline"
        )
        raise problem from error
    finally:
        if connection is not None:
            connection.close()


def records_error(error: BaseException, url: URL | None = None) -> DatabaseError:
    """Return our error for an error of the database with Dagster's records.

    Args:
        error: what SQLAlchemy or the driver raised.
        url: the database; None means that of the settings.
    """
    cause = getattr(error, "orig", None) or error
    diagnostics = getattr(cause, "diag", None)
    said = getattr(diagnostics, "message_primary", None) or (str(cause).strip() or type(cause).__name__).splitlines()[0]
    try:
        database = str((url or settings.dagster_database_url()).set(query={}))
    except IrpError as problem:
        database = str(problem)
    return DatabaseError(
        f"Dagster's records in {database} cannot be used: {said}. To find out what is missing: irp doctor. "
        "IRP_DAGSTER_DATABASE_URL names another database for them",
        sqlstate=getattr(cause, "pgcode", None),
        disconnected=isinstance(cause, psycopg2.OperationalError),
    )


@contextmanager
def sole_decision(instance: DagsterInstance) -> Iterator[None]:
    """Decide within the block which run gets a cycle; other processes that decide must wait.

    The lock belongs to a transaction, so a killed process cannot keep it. If Dagster's records are not in PostgreSQL,
    there is no lock; if two runs then start at once, only the leases of their steps keep them apart.

    Raises:
        DatabaseError: the database with Dagster's records is away.
    """
    url = getattr(instance.run_storage, "postgres_url", None)
    if url is None:
        yield
        return
    try:
        connection = connect(make_url(url))
    except psycopg2.Error as error:
        raise records_error(error, make_url(url)) from error
    with closing(connection):
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_DECISIONS_LOCK,))
        except psycopg2.Error as error:
            raise records_error(error, make_url(url)) from error
        yield  # the lock ends with the connection


def connect(url: URL) -> psycopg2.extensions.connection:
    """Connect to the database with Dagster's records.

    Raises:
        psycopg2.Error: it is away, or refuses. :func:`records_error` says so to people.
    """
    arguments = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
    connection: psycopg2.extensions.connection = psycopg2.connect(
        **arguments, connect_timeout=settings.connect_timeout_seconds()
    )
    return connection
