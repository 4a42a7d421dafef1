"""How a command fails: with a message for the person at the keyboard, and never with a traceback of a user's mistake.

What the pipeline's database and the settings refuse is an error of ours. What Dagster's database, a disk or a
``dagster.yaml`` does to Dagster comes as whatever Dagster makes of it, and is put into words here.

An error that is none of ours and not the system's is a defect, and keeps its traceback.
"""

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from irp_pipeline.cli import output
from irp_pipeline.errors import IrpError

FAILED = 1
_OF_DATABASES = frozenset({"psycopg2.Error", "sqlalchemy.exc.DBAPIError", "sqlalchemy.exc.TimeoutError"})
INTERRUPTED = 130  # as the shell says of a program that Ctrl-C ended


class CommandError(IrpError):
    """The command was understood and is not carried out: the thing is not there, or the person did not say yes."""


class FailingInWords(TyperGroup):
    """The root of the commands: what any of them raises ends here, as a message and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            typer.Exit: it failed, and the person was told why.
        """
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read our output has seen enough
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
    """Return what to tell a person of an error, or None if it is a defect.

    Dagster wraps what its database and its files say; that is looked for behind its own errors.
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
    """Tell whether an error is one of a database, without loading what may never have been needed."""
    return any(f"{kind.__module__}.{kind.__name__}" in _OF_DATABASES for kind in type(error).__mro__)
