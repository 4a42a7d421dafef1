"""Recording messages before they are sent, in the table ``irp_message`` of the current schema."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from irp_pipeline.helpers.messages.message import Message
from irp_pipeline.postgres.running import execute_command, fetch_all


def recorded_keys(keys: Iterable[str]) -> set[str]:
    """Return those of these keys that have a message."""
    wanted = list(keys)
    if not wanted:
        return set()
    rows = fetch_all("SELECT DISTINCT message_key FROM irp_message WHERE message_key = ANY(%s)", (wanted,))
    return {row["message_key"] for row in rows}


def record_message(message: Message, services: Collection[str]) -> int:
    """Record a message for some services, unless it is recorded already. Safe for any number of callers at once.

    Returns:
        For how many services it is new.
    """
    return execute_command(
        """
        INSERT INTO irp_message (message_key, service, event, title, body)
        SELECT %s, service, %s, %s, %s FROM unnest(%s::text[]) AS service
        ON CONFLICT (message_key, service) DO NOTHING
        """,
        (message.key, message.event.value, message.title, message.body, list(services)),
    )
