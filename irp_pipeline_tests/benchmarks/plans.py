"""Shows how the server runs the statements that the helpers send, as they send them.

While :func:`explained_statements` is open, each statement is explained before it is run, on the same connection and
with the same values. So no statement is copied, and none can change without its plan.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg2.extensions import connection as DriverConnection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from irp_pipeline.helpers.database import get_engine

_HAS_A_PLAN = (b"SELECT", b"INSERT", b"UPDATE", b"DELETE", b"WITH")


@dataclass(frozen=True)
class Explained:
    """A statement and its plan.

    Attributes:
        statement: what was sent, with its values.
        plan: the top node, as ``EXPLAIN (FORMAT JSON)`` gives it.
    """

    statement: str
    plan: dict[str, Any]

    def sequential_scans(self) -> list[str]:
        """Return the tables that are read from end to end."""
        return [node["Relation Name"] for node in _nodes(self.plan) if node["Node Type"] == "Seq Scan"]


@contextmanager
def explained_statements() -> Iterator[list[Explained]]:
    """Yield a list that receives each statement that this process sends through the helpers, explained."""
    explained: list[Explained] = []

    class ExplainingCursor(Cursor):
        def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - the driver's name
            sent = self.mogrify(query, vars)
            if sent.lstrip().startswith(_HAS_A_PLAN):
                super().execute(b"EXPLAIN (FORMAT JSON) " + sent)
                explained.append(Explained(sent.decode(), self.fetchall()[0][0][0]["Plan"]))
            super().execute(query, vars)

    with _working_through(ExplainingCursor):
        yield explained


@contextmanager
def sent_statements() -> Iterator[list[bytes]]:
    """Yield a list that receives each statement that this process sends through the helpers."""
    sent: list[bytes] = []

    class NotingCursor(Cursor):
        def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - the driver's name
            sent.append(self.mogrify(query, vars))
            super().execute(query, vars)

    with _working_through(NotingCursor):
        yield sent


@contextmanager
def _working_through(cursor: type[Cursor]) -> Iterator[None]:
    """Give the connections of this process another kind of cursor."""

    def begin(dbapi: DriverConnection, *_: object) -> None:
        dbapi.cursor_factory = cursor

    def end(dbapi: DriverConnection | None, *_: object) -> None:
        if dbapi is not None:
            dbapi.cursor_factory = Cursor

    engine = get_engine()
    sa.event.listen(engine, "checkout", begin)
    sa.event.listen(engine, "checkin", end)
    try:
        yield
    finally:
        sa.event.remove(engine, "checkout", begin)
        sa.event.remove(engine, "checkin", end)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
