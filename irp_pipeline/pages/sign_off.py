"""What the pages say of the sign-off of a cycle's figures."""

from __future__ import annotations

from typing import Final

from irp_pipeline.helpers.cycle_lookup import Cycle
from irp_pipeline.helpers.sign_off import NOT_VERIFIED, find_sign_off, list_decisions
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.postgres.running import execute_command, transaction

_LIMIT: Final = "SET LOCAL statement_timeout TO '500ms'"
_CANCELLED: Final = "57014"


def sign_off_in_words(cycle: Cycle) -> str | None:
    """Say who decided on the figures of a cycle, and whether that stands; None if nobody has decided.

    Whether it stands is computed from all figures. A page does not wait for that longer than half a second.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    decisions = list_decisions(cycle.id)
    if not decisions:
        return None
    try:
        with transaction():
            execute_command("SET TRANSACTION READ ONLY")
            execute_command(_LIMIT)
            return str(find_sign_off(cycle.id))
    except DatabaseError as error:
        if error.sqlstate != _CANCELLED:
            raise
    newest = decisions[0]
    who = newest.db_login + ("" if newest.is_verified else f" ({NOT_VERIFIED})")
    return (
        f"{newest.decision.capitalize()} by {who} on {newest.decided_ts:%Y-%m-%d %H:%M} UTC. Whether something has "
        f"changed since takes longer to find out than a page may take: irp approvals {cycle.cycle_name}"
    )
