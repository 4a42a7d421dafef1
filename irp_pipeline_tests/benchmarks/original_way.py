"""The way of working that this project replaces, as its requirements describe it, for comparison.

Each call opens a connection of its own (an engine without a pool), sets the search path on it, and reads even a single
row through pandas. It is written here as favourably as that allows: one engine for all calls, and statements with
the parameter names that SQLAlchemy wants, so that none has to be rewritten.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.pool import NullPool


class OriginalWay:
    """Runs statements in one schema, each on a new connection."""

    def __init__(self, url: sa.URL, schema: str) -> None:
        self._engine = sa.create_engine(url, poolclass=NullPool)
        self._set_path = sa.text(f'SET search_path TO "{schema}"')

    def query(self, statement: str, parameters: Mapping[str, Any]) -> pd.DataFrame:
        """Return the rows of a query."""
        with self._engine.connect() as connection:
            connection.execute(self._set_path)
            return pd.read_sql_query(sa.text(statement), connection, params=dict(parameters))

    def first_row(self, statement: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the first row of a query as a dict, or None."""
        rows = self.query(statement, parameters)
        if rows.empty:
            return None
        return {str(name): value for name, value in rows.iloc[0].to_dict().items()}

    def insert(self, statement: str, parameters: Mapping[str, Any]) -> int:
        """Insert a row and return its id."""
        with self._engine.begin() as connection:
            connection.execute(self._set_path)
            return int(connection.execute(sa.text(statement + " RETURNING id"), parameters).scalar_one())

    def command(self, statement: str, parameters: Mapping[str, Any]) -> int:
        """Run a statement and return how many rows it affected."""
        with self._engine.begin() as connection:
            connection.execute(self._set_path)
            return connection.execute(sa.text(statement), parameters).rowcount

    def insert_many(self, statement: str, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Insert rows one by one in one transaction, dicts as JSON, and return their ids."""
        insert = sa.text(statement + " RETURNING id")
        with self._engine.begin() as connection:
            connection.execute(self._set_path)
            return [
                int(connection.execute(insert, {name: _bound(value) for name, value in row.items()}).scalar_one())
                for row in rows
            ]


def _bound(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict) else value
