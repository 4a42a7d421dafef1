"""Sending the messages that are due, each by one sender at a time.

A sender claims a message until a deadline, gives it to its service, and notes the outcome. Nobody else sends it before
the deadline. If the sender dies in between, nobody knows whether the message went out: it is sent again after the
deadline. Any later attempt says so in its last line.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from irp_pipeline.helpers.messages.services import Service
from irp_pipeline.postgres.running import execute_command, fetch_one

CLAIM_SECONDS: Final = 120
"""How long a sender has a message to itself; far more than sending takes."""
FIRST_PAUSE_SECONDS: Final = 60
"""The pause after the first failed attempt, and for other messages to the same service. It doubles each time."""
LONGEST_PAUSE_SECONDS: Final = 3600
GIVEN_UP_SECONDS: Final = 24 * 3600
"""A message that is older is given up."""


@dataclass(slots=True)
class Outcome:
    """What became of the messages that were due.

    Attributes:
        sent: how many were sent.
        problems: what went wrong, by the name of the service. Those services are not tried again.
    """

    sent: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def send_due(services: Iterable[Service], until: float, outcome: Outcome) -> None:
    """Send the messages of the current schema that are due, those with the fewest attempts first.

    Args:
        services: who can be sent to. Messages to others wait.
        until: begin no message after this time of :func:`time.monotonic`.
        outcome: is added to; services that it has a problem of are left out.
    """
    _give_up()
    by_name = {service.name: service for service in services}
    while time.monotonic() < until:
        claimed = _claim([name for name in by_name if name not in outcome.problems])
        if claimed is None:
            return
        problem = by_name[claimed["service"]].send(claimed["title"], _body(claimed))
        if problem is None:
            _note_sent(claimed)
            outcome.sent += 1
        else:
            _note_problem(claimed, problem)
            outcome.problems[claimed["service"]] = problem


def _body(claimed: dict[str, Any]) -> str:
    body: str = claimed["body"]
    if claimed["attempts"] > 1:
        body += f"\n\nSent in attempt {claimed['attempts']}: it may have arrived before."
    return body


def _give_up() -> None:
    """Give up what is too old, unless somebody is sending it now."""
    execute_command(
        """
        UPDATE irp_message
           SET status = 'FAILED', claim_token = NULL, problem = coalesce(problem, 'it was not sent in time')
         WHERE status IN ('WAITING', 'SENDING') AND created_ts < clock_timestamp() - make_interval(secs => %s)
           AND (status = 'WAITING' OR due_ts <= clock_timestamp())
        """,
        (GIVEN_UP_SECONDS,),
    )


def _claim(services: Sequence[str]) -> dict[str, Any] | None:
    """Claim a message that is due for one of these services, or whose sender has let its deadline pass."""
    if not services:
        return None
    return fetch_one(
        """
        UPDATE irp_message m
           SET status = 'SENDING', attempts = m.attempts + 1, claim_token = %s,
               due_ts = clock_timestamp() + make_interval(secs => %s)
         WHERE m.id = (SELECT id FROM irp_message
                        WHERE status IN ('WAITING', 'SENDING') AND due_ts <= clock_timestamp() AND service = ANY(%s)
                        ORDER BY attempts, id LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING m.id, m.claim_token, m.service, m.title, m.body, m.attempts
        """,
        (uuid4().hex, CLAIM_SECONDS, list(services)),
    )


def _note_sent(claimed: dict[str, Any]) -> None:
    execute_command(
        """
        UPDATE irp_message SET status = 'SENT', sent_ts = clock_timestamp(), claim_token = NULL, problem = NULL
         WHERE id = %s AND claim_token = %s
        """,
        (claimed["id"], claimed["claim_token"]),
    )


def _note_problem(claimed: dict[str, Any], problem: str) -> None:
    """Note a failed attempt, and let other messages to the service wait a little, too."""
    pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(claimed["attempts"] - 1, 10), LONGEST_PAUSE_SECONDS)
    execute_command(
        """
        UPDATE irp_message
           SET status = 'WAITING', due_ts = clock_timestamp() + make_interval(secs => %s), claim_token = NULL,
               problem = %s
         WHERE id = %s AND claim_token = %s
        """,
        (pause, problem, claimed["id"], claimed["claim_token"]),
    )
    execute_command(
        """
        UPDATE irp_message SET due_ts = clock_timestamp() + make_interval(secs => %s)
         WHERE status = 'WAITING' AND service = %s AND due_ts < clock_timestamp() + make_interval(secs => %s)
        """,
        (FIRST_PAUSE_SECONDS, claimed["service"], FIRST_PAUSE_SECONDS),
    )
