"""Shows how the server runs the statements that the helpers send, as they send them.

While :func:`explained_statements` is open, each statement is explained before it is run, on the same connection and
with the same values. So no statement is copied, and none can change without its plan.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from irp_pipeline.postgres import transactions
from irp_pipeline.postgres.cursors import SchemaCursor

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

    class ExplainingCursor(SchemaCursor):
        def send(self, query: str | bytes, values: Any = None) -> None:
            sent = self.mogrify(query, values)
            if sent.lstrip().startswith(_HAS_A_PLAN):
                super().send(b"EXPLAIN (FORMAT JSON) " + sent)
                explained.append(Explained(sent.decode(), self.fetchall()[0][0][0]["Plan"]))
            super().send(query, values)

    with _working_through(ExplainingCursor):
        yield explained


@contextmanager
def sent_statements() -> Iterator[list[bytes]]:
    """Yield a list that receives each statement that this process sends through the helpers."""
    sent: list[bytes] = []

    class NotingCursor(SchemaCursor):
        def send(self, query: str | bytes, values: Any = None) -> None:
            sent.append(self.mogrify(query, values))
            super().send(query, values)

    with _working_through(NotingCursor):
        yield sent


@contextmanager
def _working_through(cursor: type[SchemaCursor]) -> Iterator[None]:
    """Give the helpers of this process another kind of cursor."""
    with mock.patch.object(transactions, "SchemaCursor", cursor):
        yield


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
