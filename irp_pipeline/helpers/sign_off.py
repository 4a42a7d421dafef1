"""Sign-off: a second person approves or rejects the figures of a cycle.

The database decides who that person is and what the decision is about (:mod:`irp_pipeline.migrations`, version 0014).
Its function ``irp_decide`` reads the login of the session, and hashes figures, jobs and inputs itself. Works in the
schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.batch_lookup import chain_of_cycle, find_current_batch
from irp_pipeline.helpers.constants import BatchStatus
from irp_pipeline.helpers.cycle_lookup import find_cycle
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.record import record_of
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.postgres.running import execute_scalar, fetch_all, fetch_one
from irp_pipeline.process import stated_person

SHOWN_CHARACTERS: Final = 12
"""How much of a hash people see."""
NOT_VERIFIED: Final = "identity not verified"

HELD: Final = "waits for approval"
"""The name under which the step that writes the results says that it waits."""
_EXPORT_STEP: Final = "report.export_results"

_NOT_ALLOWED: Final = "42501"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
_NOT_READY: Final = ("55000", "P0002")
_APPROVED: Final = "APPROVED"
_REJECTED: Final = "REJECTED"


class SignOffError(IrpError):
    """A decision about figures is refused; the message says why."""


class SignOffState(StrEnum):
    """Whether the figures of a cycle are approved."""

    WAITING = "WAITING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    VOID = "VOID"


@dataclass(frozen=True, kw_only=True, slots=True)
class SignOff:
    """The newest decision about the figures of a cycle, and whether it stands.

    Attributes:
        state: WAITING without a decision; VOID if something changed since.
        changed: what changed since: figures, jobs, inputs.
        figures: how many figures there are.
        content_hash: of the present figures, jobs and inputs.
        decision: APPROVED or REJECTED; None without one.
        reason: why, if a person said it.
        db_login: the login of the database that decided.
        is_verified: whether only that person can have decided.
        stated_user: the user of the operating system, as the client says.
        stated_host: the client's machine, as it says.
        decided_ts: when, by the clock of the server.
    """

    state: SignOffState
    changed: tuple[str, ...]
    figures: int
    content_hash: str
    decision: str | None
    reason: str | None
    db_login: str | None
    is_verified: bool | None
    stated_user: str | None
    stated_host: str | None
    decided_ts: datetime | None

    @property
    def is_approved(self) -> bool:
        """Whether the present figures are approved."""
        return self.state is SignOffState.APPROVED

    @property
    def short_hash(self) -> str:
        """The hash of the present content as people see it."""
        return self.content_hash[:SHOWN_CHARACTERS]

    def __str__(self) -> str:
        """Return it in a sentence."""
        if self.decision is None:
            return f"Waiting for approval of {self.short_hash}" if self.figures else "No figures to approve yet"
        who = str(self.db_login)
        if not self.is_verified:
            stated = f", as {self.stated_user} on {self.stated_host}" if self.stated_user else ""
            who += f" ({NOT_VERIFIED}{stated})"
        when = "" if self.decided_ts is None else f" on {self.decided_ts:%Y-%m-%d %H:%M} UTC"
        why = f": {self.reason}" if self.reason else ""
        decided = f"{self.decision.capitalize()} by {who}{when}{why}"
        if self.state is not SignOffState.VOID:
            return decided
        return f"Void, since {' and '.join(self.changed)} changed. It was: {decided[0].lower()}{decided[1:]}"

    def content(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {"decided_ts": None if self.decided_ts is None else self.decided_ts.isoformat()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A decision that was made about the figures of a cycle.

    Attributes:
        id: its id.
        decision: APPROVED or REJECTED.
        reason: why, if a person said it.
        content_hash: of the figures, jobs and inputs that it is about.
        db_login: the login of the database that decided.
        is_verified: whether only that person can have decided.
        stated_user: the user of the operating system, as the client says.
        stated_host: the client's machine, as it says.
        decided_ts: when.
    """

    id: int
    decision: str
    reason: str | None
    content_hash: str
    db_login: str
    is_verified: bool
    stated_user: str | None
    stated_host: str | None
    decided_ts: datetime


def approve(cycle_name: str, seen: str | None = None, reason: str | None = None) -> SignOff:
    """Approve the figures of a cycle, as the login of the database.

    Args:
        cycle_name: the cycle.
        seen: the beginning of the hash that the report or ``irp status`` shows: other figures are not approved. None
            approves the present ones.
        reason: a remark.

    Returns:
        The sign-off.

    Raises:
        SignOffError: there are no complete figures of what the workbook asks for, they are not those that were seen, or
            the login has run the cycle or can write its records.
        DatabaseError: the login is no approver, or the database is away.
    """
    return _decide(cycle_name, _APPROVED, reason, seen)


def reject(cycle_name: str, reason: str, seen: str | None = None) -> SignOff:
    """Reject the figures of a cycle. Arguments and errors as of :func:`approve`, but a reason is needed."""
    if not reason.strip():
        raise SignOffError("Say why the figures are rejected")
    return _decide(cycle_name, _REJECTED, reason, seen)


def _decide(cycle_name: str, decision: str, reason: str | None, seen: str | None) -> SignOff:
    cycle = find_cycle(cycle_name)
    if decision == _APPROVED and cycle is not None and find_current_batch(cycle.id) is None:
        raise SignOffError(
            f"The workbook of {cycle_name} asks for other jobs than those that were run. Nothing was decided. To run "
            f"them: irp run {cycle_name}"
        )
    if decision == _APPROVED and cycle is not None:
        for link in chain_of_cycle(cycle.id):
            if not link.is_first and link.batch.status is not BatchStatus.COMPLETED:
                raise SignOffError(
                    f"The batch {link.batch.id} of the type {link.batch.batch_type} is {link.batch.status}, so "
                    f"{cycle_name} is not complete. Nothing was decided. To see it: irp batch show {link.batch.id}"
                )
    user, host = stated_person()
    try:
        execute_scalar(
            "SELECT irp_decide(%s, %s, %s, %s, %s, %s)", (cycle_name, decision, reason or None, seen, user, host)
        )
    except DatabaseError as error:
        if error.sqlstate not in {_NOT_ALLOWED, *_NOT_READY}:
            raise
        said = str(error.args[0])
        if said.startswith("Permission denied for function"):
            said = "This login of the database is no approver"
        what_to_do = (
            "An approver decides, with a login that runs nothing"
            if error.sqlstate == _NOT_ALLOWED
            else f"To see it: irp status {cycle_name}"
        )
        raise SignOffError(f"{said}. Nothing was decided. {what_to_do}") from error
    return require_sign_off(cycle_name)


def find_sign_off(cycle_id: int) -> SignOff:
    """Return whether the figures of a cycle are approved.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    row = fetch_one("SELECT * FROM irp_sign_off_of_cycle(%s)", (cycle_id,))
    if row is None:  # it always returns a row
        raise SignOffError(f"The database says nothing about the cycle {cycle_id}")
    return record_of(SignOff, {**row, "changed": tuple(row["changed"])})


def require_sign_off(cycle_name: str) -> SignOff:
    """Return whether the figures of a cycle are approved.

    Raises:
        SignOffError: there is no such cycle.
        DatabaseError: the database refuses or is away.
    """
    cycle = find_cycle(cycle_name)
    if cycle is None:
        raise SignOffError(f"There is no cycle {cycle_name!r} in schema {get_current_schema()!r}")
    return find_sign_off(cycle.id)


def list_decisions(cycle_id: int) -> list[Decision]:
    """Return the decisions about the figures of a cycle, the newest first.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    rows = fetch_all(
        """
        SELECT id, decision, reason, content_hash, db_login, is_verified AND irp_is_separated() AS is_verified,
               stated_user, stated_host, decided_ts
          FROM irp_approval WHERE cycle_id = %s ORDER BY id DESC
        """,
        (cycle_id,),
    )
    return [record_of(Decision, row) for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldCycle:
    """An open cycle whose results are not written before they are approved.

    Attributes:
        cycle_id: its id.
        cycle_name: the cycle.
        step_run_id: the step run that waits.
    """

    cycle_id: int
    cycle_name: str
    step_run_id: int


def held_cycles() -> list[HeldCycle]:
    """Return the open cycles whose results wait, or have waited until now, for approval.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    rows = fetch_all(
        """
        SELECT c.id AS cycle_id, c.cycle_name, newest.id AS step_run_id
          FROM irp_cycle c
          JOIN irp_stage sg ON sg.cycle_id = c.id
          JOIN irp_step st ON st.stage_id = sg.id AND st.step_key = %s
          JOIN LATERAL (SELECT r.id, r.status, r.output_data FROM irp_step_run r
                         WHERE r.step_id = st.id AND r.status <> 'SKIPPED' ORDER BY r.run_num DESC LIMIT 1) newest
            ON newest.status = 'COMPLETED' AND newest.output_data ? %s
         WHERE c.status = 'ACTIVE'
         ORDER BY c.id
        """,
        (_EXPORT_STEP, HELD),
    )
    return [record_of(HeldCycle, row) for row in rows]
