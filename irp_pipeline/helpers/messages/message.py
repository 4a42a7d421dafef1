"""What a message is."""

from dataclasses import dataclass
from enum import StrEnum


class Event(StrEnum):
    """What a message is about. These are the tags that say which service gets it."""

    FAILED = "failed"
    FINISHED = "finished"
    STUCK = "stuck"
    APPROVAL = "approval"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A message to people.

    Attributes:
        key: what happened, the same whenever it is seen, such as ``run/<id>/failed``: it is sent once.
        event: what it is about.
        title: one line.
        body: plain text of several lines.
    """

    key: str
    event: Event
    title: str
    body: str
