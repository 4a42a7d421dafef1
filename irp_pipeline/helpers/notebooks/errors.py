"""What goes wrong with a notebook that is a step."""

from pathlib import Path

from irp_pipeline.errors import IrpError


class NotebookStepError(IrpError):
    """A notebook cannot be executed as a step, or its execution failed.

    Attributes:
        executed: the notebook as far as it was executed, if it was kept.
    """

    def __init__(self, message: str, executed: Path | None = None) -> None:
        """Make the error.

        Args:
            message: one line.
            executed: the notebook as far as it was executed.
        """
        super().__init__(message)
        self.executed = executed
