"""Which PostgreSQL schema the caller works in.

The schema belongs to the caller: to its thread and, within that, to its asyncio task. It never belongs to a
connection, an engine or the process, so two callers cannot disturb each other. The first of these that is given counts:

1. the ``schema=`` argument of an operation;
2. the schema set by :func:`set_schema` or :func:`schema_context` in this thread or task;
3. the environment variable ``DB_SCHEMA``;
4. ``public``.

This module chooses a schema and checks its name. What is done with it (search path, creation, existence) belongs in
the other modules of :mod:`irp_pipeline.postgres`.

A new thread starts from this list, not from its parent's schema. ``asyncio.to_thread`` copies the parent's schema.
:func:`carry_schema` binds the caller's schema to a function that a pool will run.

The schema follows from the open blocks, and is never restored: a block that closes removes only itself, whenever and
wherever it closes. A generator that is suspended inside a block leaves the block open, and its consumer works in that
schema until the generator continues (context managers and fixtures written as generators need this). The generator
itself stays in its own schema, whatever was opened while it was suspended. As a decorator, :func:`schema_context`
leaves the schema at every ``yield``, so the consumer never works in it.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import FrameType
from typing import Any, ParamSpec, TypeVar, cast

_P = ParamSpec("_P")
_R = TypeVar("_R")

DEFAULT_SCHEMA = "public"
"""The schema if none is set."""

_MAX_IDENTIFIER_BYTES = 63  # NAMEDATALEN - 1 of a standard PostgreSQL build

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

# The schema that was set outside all blocks.
_schema: ContextVar[str | None] = ContextVar("irp_schema", default=None)
# The open blocks of this thread or task from the outermost to the innermost, each with its schema or the one that was
# set inside it later.
_blocks: ContextVar[tuple[tuple[_Block, str | None], ...]] = ContextVar("irp_schema_blocks", default=())


class _Block:
    """An opened block: one execution of one ``with``.

    Attributes:
        frame: the frame that opened it.
        owner: the thread and the task that opened it.
        generators: the generators that were running then: they or their callees opened it.
        strangers: generators of blocks around it that were suspended then. This block does not affect them when they
            continue.
        has_ended: whether it was closed; a task that began inside it stays in it anyway.
        is_gone: whether it was closed by another thread or task, which cannot change this one's list.
    """

    __slots__ = ("frame", "generators", "has_ended", "is_gone", "owner", "strangers")

    def __init__(self, frame: FrameType, around: tuple[tuple[_Block, str | None], ...]) -> None:
        self.frame: FrameType | None = frame
        self.owner = this_caller()
        self.generators = _running_generators(frame)
        self.has_ended = self.is_gone = False
        self.strangers = [
            (block, generator)
            for block, _ in around
            for generator in block.generators
            if generator not in self.generators and block.owner == self.owner
        ]

    def is_visible(self) -> bool:
        """Return whether the code that runs now is inside this block."""
        if self.is_gone:
            return False
        if not self.strangers or self.owner[0] != threading.get_ident():
            return True
        # A suspended generator's frame has no caller (f_back).
        return not any(not block.has_ended and generator.f_back is not None for block, generator in self.strangers)

    def close(self) -> None:
        """Remove it from this thread's or task's list, and from everybody's if another thread or task closes it."""
        blocks = _blocks.get()
        remaining = tuple([entry for entry in blocks if entry[0] is not self])
        if len(remaining) != len(blocks):
            _blocks.set(remaining)
        self.has_ended = True
        self.is_gone = len(remaining) == len(blocks) or self.owner != this_caller()
        self.frame = None
        self.generators = ()
        self.strangers = []


def _running_generators(frame: FrameType | None) -> tuple[FrameType, ...]:
    generators = []
    while frame is not None:
        if frame.f_code.co_flags & _GENERATOR:
            generators.append(frame)
        frame = frame.f_back
    return tuple(generators)


def this_caller() -> tuple[int, object]:
    """Return what identifies this flow of control within the process: its thread and its asyncio task."""
    asyncio = sys.modules.get("asyncio")  # if it is not imported, there is no task
    try:
        return threading.get_ident(), asyncio and asyncio.current_task()
    except RuntimeError:
        return threading.get_ident(), None


def _innermost() -> int | None:
    """Return the position of the innermost open block, or None if no block is open."""
    blocks = _blocks.get()
    for position in range(len(blocks) - 1, -1, -1):
        if blocks[position][0].is_visible():
            return position
    return None


def check_schema_name(name: object) -> str:
    """Return ``name`` if it can be the name of one of our schemas.

    Args:
        name: the name to check. Any text that PostgreSQL takes as a quoted identifier is
            accepted: 1 to 63 bytes of UTF-8 without NUL.

    Returns:
        The same name.

    Raises:
        ValueError: it is not a string, is empty, is longer than 63 bytes (PostgreSQL would cut it silently, and two
            schemas could become one), contains a NUL or a lone surrogate, or belongs to the server (``pg_*``,
            ``information_schema``, and ``$user``, which a search path reads as the schema of the login name).
    """
    if not isinstance(name, str):
        raise ValueError(f"A schema name must be a string, not {type(name).__name__}: {name!r}")
    if not name:
        raise ValueError("A schema name cannot be empty: ''")
    if "\x00" in name:
        raise ValueError(f"A schema name cannot contain a NUL character: {name!r}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"A schema name must be valid Unicode text: {name!r}") from None
    if size > _MAX_IDENTIFIER_BYTES:
        raise ValueError(f"A schema name has at most {_MAX_IDENTIFIER_BYTES} bytes, this one has {size}: {name!r}")
    if name.startswith("pg_") or name in {"information_schema", "$user"}:
        raise ValueError(f"PostgreSQL reserves this schema name: {name!r}")
    return name


def get_schema_from_env() -> str:
    """Return the schema that the environment names: ``DB_SCHEMA``, or ``public``.

    Raises:
        ValueError: ``DB_SCHEMA`` is not a schema name.
    """
    name = os.environ.get("DB_SCHEMA")
    if not name:
        return DEFAULT_SCHEMA
    try:
        return check_schema_name(name)
    except ValueError as error:
        raise ValueError(f"The environment variable DB_SCHEMA is not a schema name. {error}") from None


def get_current_schema() -> str:
    """Return the schema that an operation without a ``schema=`` argument would use now.

    Raises:
        ValueError: nothing is set in this thread or task, and ``DB_SCHEMA`` is not a schema name.
    """
    position = _innermost()
    named = _schema.get() if position is None else _blocks.get()[position][1]
    return named or get_schema_from_env()


def set_schema(name: str) -> None:
    """Work in schema ``name`` from now on, in this thread or asyncio task; inside a block, until the block ends.

    ``set_schema("public")`` means public, whatever ``DB_SCHEMA`` says; :func:`reset_schema` goes back to the
    environment.

    Raises:
        ValueError: ``name`` cannot be a schema name; the schema does not change.
    """
    _set(check_schema_name(name))


def reset_schema() -> None:
    """Forget the schema that was set in this thread or task, and go back to ``DB_SCHEMA``, else ``public``."""
    _set(None)


def _set(name: str | None) -> None:
    position = _innermost()
    if position is None:
        _schema.set(name)
        return
    blocks = _blocks.get()
    _blocks.set((*blocks[:position], (blocks[position][0], name), *blocks[position + 1 :]))


def schema_context(name: str) -> SchemaContext:
    """Work in schema ``name`` inside a ``with`` block or, as a decorator, inside a function.

    However the block ends, the schema then is again that of the blocks around it. Blocks can be nested, and may close
    in any order. As a decorator it works for plain and ``async`` functions and for generators of both kinds: a
    generator works in the schema while it runs, and its consumer never does.

    Args:
        name: the schema; checked now, before any block starts.

    Raises:
        ValueError: ``name`` cannot be a schema name.

    Example:
        >>> with schema_context("test_cycle"):
        ...     get_current_schema()
        'test_cycle'
    """
    return SchemaContext(name)


def schema_argument(schema: str | None) -> AbstractContextManager[object]:
    """Return the block for a function with an argument ``schema``: None means the schema that the context names."""
    return nullcontext() if schema is None else schema_context(schema)


class SchemaContext:
    """The result of :func:`schema_context`: enter it with ``with``, or decorate functions with it."""

    def __init__(self, name: str) -> None:
        self._name = check_schema_name(name)
        self._opened: list[_Block] = []

    def __enter__(self) -> str:
        blocks = _blocks.get()
        block = _Block(sys._getframe(1), blocks)
        self._opened.append(block)
        _blocks.set((*blocks, (block, self._name)))
        return self._name

    def __exit__(self, *exc_info: object) -> None:
        opened = self._opened
        block = opened[0] if len(opened) == 1 else self._opened_here(sys._getframe(1))
        opened.remove(block)
        block.close()

    def _opened_here(self, frame: FrameType) -> _Block:
        """Return which block ends here: an object may be entered several times, and by several threads at once."""
        mine = [block for block, _ in _blocks.get() if block in self._opened]
        candidates = mine or self._opened
        return next((block for block in reversed(candidates) if block.frame is frame), candidates[-1])

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return ``function`` so that each call runs in the schema; a generator, each time that it continues."""
        name = self._name
        wrapper: Any
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def in_schema_async_generator(*args: _P.args, **kwargs: _P.kwargs) -> AsyncGenerator[Any, Any]:
                generator = function(*args, **kwargs)
                go_on, value = generator.asend, None
                while True:
                    try:
                        with SchemaContext(name):
                            item = await go_on(value)
                    except StopAsyncIteration:
                        return
                    try:
                        value = yield item
                        go_on = generator.asend
                    except GeneratorExit:
                        with SchemaContext(name):
                            await generator.aclose()
                        raise
                    except BaseException as error:
                        go_on, value = generator.athrow, error

            wrapper = in_schema_async_generator
        elif inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def in_schema_generator(*args: _P.args, **kwargs: _P.kwargs) -> Generator[Any, Any, Any]:
                generator = function(*args, **kwargs)
                go_on, value = generator.send, None
                while True:
                    try:
                        with SchemaContext(name):
                            item = go_on(value)
                    except StopIteration as stop:
                        return stop.value
                    try:
                        value = yield item
                        go_on = generator.send
                    except GeneratorExit:
                        with SchemaContext(name):
                            generator.close()
                        raise
                    except BaseException as error:
                        go_on, value = generator.throw, error

            wrapper = in_schema_generator
        elif inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def in_schema_async(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                with SchemaContext(name):
                    return await function(*args, **kwargs)

            wrapper = in_schema_async
        else:

            @functools.wraps(function)
            def in_schema(*args: _P.args, **kwargs: _P.kwargs) -> _R:
                with SchemaContext(name):
                    return function(*args, **kwargs)

            wrapper = in_schema
        return cast("Callable[_P, _R]", wrapper)


def init_from_environment() -> None:
    """Set the schema of this thread or task to the one in ``DB_SCHEMA``, if the variable is set.

    Later changes of the environment then have no effect here.

    Raises:
        ValueError: ``DB_SCHEMA`` is not a schema name.
    """
    if os.environ.get("DB_SCHEMA"):
        set_schema(get_schema_from_env())


def carry_schema(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Bind the caller's current schema to ``function``, for a thread pool or a callback.

    Args:
        function: called later, in any thread.

    Returns:
        A function with the same arguments and result that runs in the schema that is current now.

    Example:
        ``pool.map(carry_schema(load_portfolio), names)``
    """
    return schema_context(get_current_schema())(function)
