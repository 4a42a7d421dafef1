"""The audit trail: who did what when, of every command that changes something.

The functions ``irp_audit_begin`` and ``irp_audit_end`` write the table ``irp_audit``. They read the login of the
session and the clock of the server. An entry is recorded before the command begins: one that was killed is in the trail
too, without an outcome. Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from irp_pipeline.helpers.record import record_of
from irp_pipeline.postgres.running import execute_scalar, fetch_all
from irp_pipeline.process import stated_person
from irp_pipeline.storable import as_stored

_ERROR_CHARACTERS: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """A command in the trail.

    Attributes:
        id: its id.
        began_ts: when it began.
        ended_ts: when it ended; None while it is at work, or if it was killed.
        command: the command.
        arguments: its arguments and options, without those that were not given.
        cycle_name: the cycle that it is about.
        db_login: the login of the database.
        stated_user: the user of the operating system, as the client says.
        stated_host: the client's machine, as it says.
        outcome: DONE, FAILED or INTERRUPTED.
        error: why it failed.
    """

    id: int
    began_ts: datetime
    ended_ts: datetime | None
    command: str
    arguments: dict[str, Any]
    cycle_name: str | None
    db_login: str
    stated_user: str | None
    stated_host: str | None
    outcome: str | None
    error: str | None


def begin_entry(
    command: str,
    arguments: Mapping[str, Any],
    cycle_name: str | None = None,
    *,
    key: str | None = None,
    user: str | None = None,
) -> int | None:
    """Record that a command begins.

    Args:
        command: its name, such as ``irp cycle create``.
        arguments: plain data, without secrets.
        cycle_name: the cycle that it is about.
        key: records the same command once, whoever records it.
        user: who started it, if that is not the user of this process.

    Returns:
        The id of the entry; None if the key is recorded already.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    own_user, host = stated_person()
    entry: int | None = execute_scalar(
        "SELECT irp_audit_begin(%s, %s, %s, %s, %s, %s)",
        (key, command, dict(arguments), cycle_name, as_stored(user or own_user), host),
    )
    return entry


def end_entry(entry: int, error: BaseException | None) -> None:
    """Record how a command ended; only for the login that began it, and once.

    Args:
        entry: the id.
        error: what ended it; None if it is done.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    outcome = "DONE" if error is None else "FAILED" if isinstance(error, Exception) else "INTERRUPTED"
    said = None if error is None else as_stored((str(error) or type(error).__name__)[:_ERROR_CHARACTERS])
    execute_scalar("SELECT irp_audit_end(%s, %s, %s)", (entry, outcome, said))


def cycle_of(*, job_id: int | None = None, batch_id: int | None = None) -> str | None:
    """Return the cycle of a job or of a batch; None if there is none.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    if job_id is None and batch_id is None:
        return None
    name: str | None = execute_scalar(
        """
        SELECT c.cycle_name
          FROM irp_batch b
          JOIN irp_configuration f ON f.id = b.configuration_id
          JOIN irp_cycle c ON c.id = f.cycle_id
         WHERE b.id = coalesce((SELECT batch_id FROM irp_job WHERE id = %s), %s)
        """,
        (job_id, batch_id),
    )
    return name


def list_entries(cycle_name: str | None = None, limit: int | None = None) -> list[AuditEntry]:
    """Return the trail, the newest entry first.

    Args:
        cycle_name: only what is about this cycle.
        limit: at most so many.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    rows = fetch_all(
        """
        SELECT id, began_ts, ended_ts, command, arguments, cycle_name, db_login, stated_user, stated_host, outcome,
               error
          FROM irp_audit WHERE %s::text IS NULL OR cycle_name = %s ORDER BY began_ts DESC, id DESC LIMIT %s
        """,
        (cycle_name, cycle_name, limit),
    )
    return [record_of(AuditEntry, row) for row in rows]
