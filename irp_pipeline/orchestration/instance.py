"""The place of the Dagster instance.

``DAGSTER_HOME`` names the instance, as everywhere in Dagster. Without it, the instance is in ``IRP_HOME``, with the
``dagster.yaml`` of this project.

https://docs.dagster.io/deployment/oss/oss-instance-configuration
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import sqlalchemy as sa
from dagster import DagsterInstance
from dagster_postgres.utils import DagsterPostgresException

import irp_pipeline
from irp_pipeline import settings
from irp_pipeline.errors import IrpError
from irp_pipeline.files import write_atomically
from irp_pipeline.orchestration.storage import dagster_files, records_error

CODE_LOCATION = "irp_pipeline.definitions"
"""The name under which the UI loads the definitions. Runs of the command line use it, so that the UI finds them."""

# Dagster loads these when they are first used, in the middle of a run.
_PARTS = ("run_launcher", "run_coordinator", "compute_log_manager")
_LONGEST = 500  # characters of a message from Dagster

_CONFIGURATION = "dagster.yaml"


class InstanceError(IrpError):
    """The Dagster instance cannot be opened."""


def use_dagster_home() -> Path:
    """Make sure that ``DAGSTER_HOME`` names an instance, for this process and its children.

    Returns:
        The folder, with a ``dagster.yaml`` in it.

    Raises:
        SettingsError: ``IRP_HOME`` cannot be made.
    """
    named = os.environ.get("DAGSTER_HOME")
    if named:
        return Path(named)
    settings.make_irp_home()
    home = dagster_files()
    write_atomically(home / _CONFIGURATION, shipped_configuration().read_text())
    os.environ["DAGSTER_HOME"] = str(home)
    return home


@contextmanager
def opened_instance() -> Iterator[DagsterInstance]:
    """Open the Dagster instance for the block.

    Raises:
        SettingsError: ``IRP_HOME`` cannot be made.
        DatabaseError: the database with Dagster's records cannot be used; the message says what to do.
        InstanceError: ``DAGSTER_HOME`` or its ``dagster.yaml`` is wrong.
    """
    home = use_dagster_home()
    try:
        instance = DagsterInstance.get()
        for part in _PARTS:
            getattr(instance, part)
    except (IrpError, OSError):
        raise
    except (sa.exc.SQLAlchemyError, psycopg2.Error, DagsterPostgresException) as error:
        raise records_error(
            error.__cause__ or error if isinstance(error, DagsterPostgresException) else error
        ) from error
    except Exception as error:  # a wrong file can raise anything in Dagster and in the modules that dagster.yaml names
        said = " ".join(str(error).split()) or type(error).__name__
        raise InstanceError(
            f"The Dagster instance in {home} cannot be opened: {said[:_LONGEST]}. Correct {home / _CONFIGURATION}, or "
            "unset DAGSTER_HOME to use the instance in IRP_HOME"
        ) from error
    with instance:
        yield instance


def shipped_configuration() -> Path:
    """Return the ``dagster.yaml`` of this project: inside an installed package, or beside the package in a checkout."""
    package = Path(irp_pipeline.__file__).parent
    inside = package / _CONFIGURATION
    return inside if inside.is_file() else package.parent / _CONFIGURATION
