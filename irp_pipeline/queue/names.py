"""What people call the queues. Nothing here uses the database."""

from __future__ import annotations

import re
from typing import Final

from irp_pipeline.errors import IrpError

QUEUE_SCHEMA: Final = "irp_queue"
"""The schema of PostgreSQL with the tables of the queue."""
DEFAULT_QUEUE: Final = "default"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")


class QueueError(IrpError):
    """A queue cannot be named as asked."""


def check_queue(name: object) -> str:
    """Return the name of a queue.

    Raises:
        QueueError: it is not 1 to 50 small letters, digits, '_' and '-'.
    """
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise QueueError(f"{name!r} cannot be the name of a queue: 1 to 50 small letters, digits, '_' and '-'")
    return name
