"""Which PostgreSQL schema the caller works in.

The schema is state of the caller: of its thread and, within it, of its asyncio task. It never belongs to a
connection, an engine or the process, so two callers cannot disturb each other. The chain, first match wins:

1. the ``schema=`` argument of an operation;
2. what :func:`set_schema` or :func:`schema_context` said in this thread or task;
3. the environment variable ``DB_SCHEMA``;
4. ``public``.

Here belongs the choice of a schema and the check of its name. What is done with it (search path, creation,
existence) belongs in :mod:`irp_pipeline.helpers.database`.

A new thread starts from the chain, not from its parent's schema; ``asyncio.to_thread`` copies the parent's;
:func:`carry_schema` binds the caller's to a function that a pool will run.
"""

import functools
import inspect
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar, cast

_P = ParamSpec("_P")
_R = TypeVar("_R")

DEFAULT_SCHEMA = "public"
"""The schema when nothing says otherwise."""

_MAX_IDENTIFIER_BYTES = 63  # NAMEDATALEN - 1 of a standard PostgreSQL build

_schema: ContextVar[str | None] = ContextVar("irp_schema", default=None)
# The open blocks of this thread or task, each with the schema from before it. Not in the SchemaContext itself: one
# object may be entered again, and by several threads at once.
_blocks: ContextVar[tuple[tuple["SchemaContext", str | None], ...]] = ContextVar("irp_schema_blocks", default=())


def check_schema_name(name: object) -> str:
    """Return ``name`` if it can be the name of a schema of ours.

    Args:
        name: what a caller offers as a schema name. Any text PostgreSQL takes as a quoted identifier is
            accepted: 1 to 63 bytes of UTF-8 without NUL.

    Returns:
        The same name.

    Raises:
        ValueError: not a string, empty, longer than 63 bytes (PostgreSQL would cut it silently and two schemas
            could become one), with a NUL or a lone surrogate, or one of the server's own (``pg_*``,
            ``information_schema``, and ``$user``, which a search path takes for the schema of the login name).
    """
    if not isinstance(name, str):
        raise ValueError(f"A schema name is a string, not {type(name).__name__}: {name!r}")
    if not name:
        raise ValueError("A schema name cannot be empty: ''")
    if "\x00" in name:
        raise ValueError(f"A schema name cannot hold a NUL character: {name!r}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"A schema name must be valid Unicode text: {name!r}") from None
    if size > _MAX_IDENTIFIER_BYTES:
        raise ValueError(f"A schema name has at most {_MAX_IDENTIFIER_BYTES} bytes, this one has {size}: {name!r}")
    if name.startswith("pg_") or name in {"information_schema", "$user"}:
        raise ValueError(f"PostgreSQL keeps this schema for itself: {name!r}")
    return name


def get_schema_from_env() -> str:
    """Return the schema that the environment names: ``DB_SCHEMA``, or ``public``.

    Raises:
        ValueError: ``DB_SCHEMA`` holds what cannot be a schema name.
    """
    name = os.environ.get("DB_SCHEMA")
    if not name:
        return DEFAULT_SCHEMA
    try:
        return check_schema_name(name)
    except ValueError as error:
        raise ValueError(f"The environment variable DB_SCHEMA is no schema name. {error}") from None


def get_current_schema() -> str:
    """Return the schema that an operation without a ``schema=`` argument would use now.

    Raises:
        ValueError: nothing is set in this thread or task, and ``DB_SCHEMA`` is not a schema name.
    """
    return _schema.get() or get_schema_from_env()


def set_schema(name: str) -> None:
    """Work in schema ``name`` from now on, in this thread or asyncio task.

    ``set_schema("public")`` means public, whatever ``DB_SCHEMA`` says; :func:`reset_schema` goes back to the chain.

    Raises:
        ValueError: ``name`` cannot be a schema name; the schema stays what it was.
    """
    _schema.set(check_schema_name(name))


def reset_schema() -> None:
    """Forget what was set in this thread or task: back to ``DB_SCHEMA``, else ``public``."""
    _schema.set(None)


def schema_context(name: str) -> "SchemaContext":
    """Work in schema ``name`` inside a ``with`` block, or as a decorator inside a function.

    The schema from before comes back at the end, however the block ends. Blocks nest. As a decorator it serves
    plain and ``async`` functions.

    Args:
        name: the schema; checked here, before any block starts.

    Raises:
        ValueError: ``name`` cannot be a schema name.

    Example:
        >>> with schema_context("test_cycle"):
        ...     get_current_schema()
        'test_cycle'
    """
    return SchemaContext(name)


class SchemaContext:
    """What :func:`schema_context` returns: enter it with ``with``, or decorate functions with it."""

    def __init__(self, name: str) -> None:
        self._name = check_schema_name(name)

    def __enter__(self) -> str:
        _blocks.set((*_blocks.get(), (self, _schema.get())))
        _schema.set(self._name)
        return self._name

    def __exit__(self, *exc_info: object) -> None:
        blocks = _blocks.get()
        for position in reversed(range(len(blocks))):
            block, before = blocks[position]
            if block is self:
                _blocks.set(blocks[:position])
                _schema.set(before)
                return

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return ``function`` so that each call runs in the schema.

        Raises:
            TypeError: for a generator function, whose caller would find itself in the schema between two values.
        """
        name = self._name
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"schema_context cannot decorate the generator {function.__name__}: "
                f"put `with schema_context({name!r}):` around the statements inside it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def in_schema_async(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                with SchemaContext(name):
                    return await function(*args, **kwargs)

            return cast("Callable[_P, _R]", in_schema_async)

        @functools.wraps(function)
        def in_schema(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with SchemaContext(name):
                return function(*args, **kwargs)

        return in_schema


def init_from_environment() -> None:
    """Set the schema of this thread or task to what ``DB_SCHEMA`` names, if it names one.

    Later changes of the environment then no longer matter here.

    Raises:
        ValueError: ``DB_SCHEMA`` is not a schema name.
    """
    if os.environ.get("DB_SCHEMA"):
        set_schema(get_schema_from_env())


def carry_schema(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Bind the caller's schema of this moment to ``function``, for a thread pool or a callback.

    Args:
        function: called later, in any thread.

    Returns:
        A function with the same arguments and result that runs in the schema of now.

    Example:
        ``pool.map(carry_schema(load_portfolio), names)``
    """
    return schema_context(get_current_schema())(function)
