"""Resources: the database, which picks the PostgreSQL schema of a run.

A resource says which schema a run works in; it opens nothing. The steps enter the schema
(:mod:`irp_pipeline.orchestration.tracking`), since in a subprocess only the body of an op is sure to run inside it.

https://docs.dagster.io/guides/build/external-resources
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster import ConfigurableResource, Failure, FilesystemIOManager, InitResourceContext, MetadataValue
from pydantic import Field

from irp_pipeline import settings
from irp_pipeline.cycle_files import OF_DAGSTER
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.database import DatabaseError, init_database
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.postgres.schemas import require_this_version

PROBLEMS = "problems"
"""The name of the metadata in which a failed op has the mistakes of a workbook."""


EXECUTED_NOTEBOOK = "executed notebook"
"""The name of the metadata in which an op shows the notebook that it executed."""


def failure_of(error: IrpError) -> Failure:
    """Return the failure of an op for an error that a user can correct.

    Its metadata are mistakes of a workbook, or a notebook as far as it was executed.
    """
    metadata: dict[str, MetadataValue[Any]] = {}
    if problems := [problem.as_dict() for problem in getattr(error, "problems", ())]:
        metadata[PROBLEMS] = MetadataValue.json(problems)
    if isinstance(error, NotebookStepError) and error.executed is not None:
        metadata[EXECUTED_NOTEBOOK] = MetadataValue.notebook(str(error.executed))
    return Failure(description=str(error), metadata=metadata)


class DatabaseResource(ConfigurableResource[None]):
    """Where a run keeps its records, and whether it repeats steps that are done.

    There is no URL here: run config is stored in plain text and shown to everybody. The environment names the server.
    """

    db_schema: str | None = Field(
        default=None,
        description="The PostgreSQL schema of this run. Empty: DB_SCHEMA of the environment, else public.",
    )
    started_by: str | None = Field(
        default=None, description="Who is recorded as having started the steps. Empty: the user of the system."
    )
    rerun_completed: bool = Field(
        default=False, description="Run every selected step again, even if it is done and unchanged."
    )
    auto_init: bool = Field(
        default=False, description="Make the schema and its tables if they are missing, or upgrade them."
    )

    @contextmanager
    def entered(self) -> Iterator[str]:
        """Work in the schema of the run.

        Yields:
            Its name.

        Raises:
            DatabaseError: ``db_schema`` or ``DB_SCHEMA`` cannot be the name of a schema, its tables are those of
                another version of this package, or ``auto_init`` is set and the schema cannot be made.
        """
        try:
            context = schema_context(self.db_schema or get_current_schema())
        except ValueError as error:
            raise DatabaseError(f"The run's schema cannot be used. {error}") from error
        with context as schema:
            if self.auto_init:
                init_database()
            require_this_version()
            yield schema


class HandedOn(FilesystemIOManager):
    """Where ops leave what they hand on to each other: in IRP_HOME, or in the store of files (IRP_FILES_URL).

    It is little. Steps hand on nothing: they read what earlier ones wrote.
    """

    def create_io_manager(self, context: InitResourceContext) -> Any:
        """Return the manager for a run."""
        url = settings.files_url()
        if url is None:
            return super().create_io_manager(context)
        return FilesystemIOManager(base_dir=f"{url}/{OF_DAGSTER}/handed_on").create_io_manager(context)
