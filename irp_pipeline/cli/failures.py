"""How a command fails: with a message for the person at the keyboard, and never with a traceback of a user's mistake.

An error that is none of ours and not the system's is a defect, and keeps its traceback.
"""

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from irp_pipeline.cli import output
from irp_pipeline.errors import IrpError

FAILED = 1
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
        except IrpError as error:
            output.print_error(error, as_json=output.wants_json(ctx))
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read our output has seen enough
                raise
            output.print_error(error, as_json=output.wants_json(ctx))
        except KeyboardInterrupt:
            output.print_note("\nInterrupted.")
            raise typer.Exit(INTERRUPTED) from None
        raise typer.Exit(FAILED)
