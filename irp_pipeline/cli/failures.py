"""How a command fails: with a message for the user. A user's mistake never shows a traceback.

Errors of the pipeline's database and of the settings are our own exceptions. Errors of Dagster's database, of a disk or
of a ``dagster.yaml`` come as exceptions of Dagster; this module turns them into messages.

Any other error, unless it comes from the operating system, is a defect and keeps its traceback.
"""

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from irp_pipeline.cli import output
from irp_pipeline.cli.trail import record_commands
from irp_pipeline.errors import IrpError

FAILED = 1
_OF_DATABASES = frozenset({"psycopg2.Error", "sqlalchemy.exc.DBAPIError", "sqlalchemy.exc.TimeoutError"})
INTERRUPTED = 130  # the shell's exit status for a program that Ctrl-C ended


class CommandError(IrpError):
    """The command is valid but cannot be carried out: something does not exist, or the user did not confirm."""


class FailingInWords(TyperGroup):
    """The root of the commands: it records them, and turns whatever they raise into a message and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            typer.Exit: it failed, and the reason was printed.
        """
        record_commands(self)
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has closed it
                raise
            output.print_error(error, as_json=output.wants_json(ctx))
        except KeyboardInterrupt:
            output.print_note("\nInterrupted.")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            told = in_words(error)
            if told is None:
                raise
            output.print_error(told, as_json=output.wants_json(ctx))
        raise typer.Exit(FAILED)


def in_words(error: BaseException) -> IrpError | OSError | None:
    """Return the error to show to a person, or None if it is a defect.

    Dagster wraps errors of its database and of its files; this function looks for them behind Dagster's own errors.
    """
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        if isinstance(behind, IrpError | OSError):
            return behind
        if _is_of_database(behind):
            from irp_pipeline.orchestration.storage import records_error

            return records_error(behind)
        seen.add(id(behind))
        is_wrapping = type(behind).__module__.startswith(("dagster", "sqlalchemy"))
        behind = behind.__cause__ or (behind.__context__ if is_wrapping else None)
    return None


def _is_of_database(error: BaseException) -> bool:
    """Tell whether an error comes from a database, without loading packages that may not be in use."""
    return any(f"{kind.__module__}.{kind.__name__}" in _OF_DATABASES for kind in type(error).__mro__)
