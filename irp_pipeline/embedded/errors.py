"""The errors of the embedded server, and what to do about them.

Here: the one exception of this package, and the remedy that many of its messages end with. Not here: the messages,
which are where the fault is detected.
"""

from irp_pipeline.errors import IrpError

REMEDY = "Set IRP_HOME to a folder of your own on a local disk, or IRP_DATABASE_URL to a running PostgreSQL server."


class EmbeddedServerError(IrpError):
    """The embedded server cannot be made, started, reached or stopped; the message says why and what to do."""
