"""The audit trail of the commands: every command that can change something is recorded, before it begins.

A command is recorded unless it is among :data:`READING`, so that a new one is not forgotten. Not here: the trail itself
(:mod:`irp_pipeline.helpers.audit`), and showing it (:mod:`irp_pipeline.cli.sign_off`).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import typer

from irp_pipeline.cli import output

READING: Final = frozenset(
    f"irp {command}"
    for command in (
        "approvals",
        "audit",
        "backup",
        "batch list",
        "batch preview",
        "batch show",
        "batch types",
        "compare",
        "config check",
        "config template",
        "cycle list",
        "cycle show",
        "db stop",
        "db url",
        "demo",  # its runs are in the trail
        "doctor",
        "explain",
        "exposure check",
        "exposure show",
        "health",
        "history",
        "job list",
        "job log",
        "job show",
        "model check",
        "notebook install-kernel",
        "report",
        "results",
        "status",
        "ui",  # what is launched there is in the trail
        "worker list",
    )
)
"""The commands that change nothing in a database, nor in the files that it names."""

_NOT_SHOWN: Final = frozenset({"as_json", "db_schema", "yes", "ctx"})
_SECRET_WORDS: Final = re.compile(r"(?i)password|secret|token|credential")
_IN_URLS: Final = re.compile(r"(?<=://)[^/@\s]+@|(?<=[?&])[^\s\"']+")
_NOT_YET: Final = frozenset({"3F000", "42P01", "42883"})
"""What the server says if the schema, its tables or its functions are not there: the command is to make them."""


def record_commands(group: Any, path: str = "irp") -> None:
    """Let each command of a group record itself when it is called; safe to repeat."""
    for name, command in group.commands.items():
        words = f"{path} {name}"
        if hasattr(command, "commands"):
            record_commands(command, words)
            if not command.invoke_without_command:
                continue
        if words not in READING and not hasattr(command.invoke, "is_recorded"):
            command.invoke = _recorded(command.invoke, words)


def _recorded(invoke: Callable[[Any], Any], command: str) -> Callable[[Any], Any]:
    @functools.wraps(invoke)
    def call(context: Any) -> Any:
        if getattr(context, "_protected_args", None):  # of a group: another command of it is called
            return invoke(context)
        with _in_trail(command, context.params):
            return invoke(context)

    call.is_recorded = True  # type: ignore[attr-defined]
    return call


@contextmanager
def _in_trail(command: str, parameters: Mapping[str, Any]) -> Iterator[None]:
    from irp_pipeline.helpers.db_context import get_current_schema, schema_context

    try:
        # What copies a schema changes the copy.
        schema = parameters.get("copy_to") or parameters.get("db_schema") or get_current_schema()
    except ValueError:  # DB_SCHEMA is no name: the command says so
        yield
        return
    arguments = {name: shown for name, value in parameters.items() if (shown := _shown(name, value)) is not None}
    with schema_context(schema):
        entry = _begin(command, arguments, parameters)
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        ended_well = isinstance(error, typer.Exit) and error.exit_code == 0
        with schema_context(schema):
            _end(entry, command, arguments, parameters, None if ended_well else _in_words(error))


def _begin(command: str, arguments: dict[str, Any], parameters: Mapping[str, Any]) -> int | None:
    """Record that a command begins; return None if the schema has no trail yet."""
    from irp_pipeline.helpers.audit import begin_entry, cycle_of
    from irp_pipeline.postgres.errors import DatabaseError

    try:
        cycle = parameters.get("cycle") or cycle_of(
            job_id=parameters.get("job_id"), batch_id=parameters.get("batch_id")
        )
        return begin_entry(command, arguments, cycle)
    except DatabaseError as error:
        if error.sqlstate in _NOT_YET:
            return None
        raise


def _end(
    entry: int | None,
    command: str,
    arguments: dict[str, Any],
    parameters: Mapping[str, Any],
    error: BaseException | None,
) -> None:
    """Record how a command ended. What it did cannot be undone, so a trail that is away is only said."""
    from irp_pipeline.helpers.audit import end_entry
    from irp_pipeline.postgres.errors import DatabaseError

    try:
        if entry is None:
            entry = _begin(command, arguments, parameters)
        if entry is not None:
            end_entry(entry, error)
    except DatabaseError as problem:
        if problem.sqlstate in _NOT_YET:  # it was to make the schema and failed, or it has dropped it
            return
        output.print_note(f"How this command ended is not in the audit trail: {str(problem).splitlines()[0]}")


def _in_words(error: BaseException | None) -> BaseException | None:
    if isinstance(error, typer.Exit):
        return typer.Abort() if error.exit_code > 128 else RuntimeError(f"exit status {error.exit_code}")
    if not isinstance(error, Exception):
        return error
    words = getattr(error, "format_message", None)  # of wrong usage
    return RuntimeError(_IN_URLS.sub("…", str(error) if words is None else words()))


def _shown(name: str, value: Any) -> Any:
    """Return an argument as the trail shows it; None if it was not given, or says nothing of what was done."""
    if name in _NOT_SHOWN or value is None or value is False or value == [] or value == ():
        return None
    if _SECRET_WORDS.search(name):
        return "…"
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_shown(name, item) for item in value]
    if isinstance(value, Mapping):
        return json.loads(_IN_URLS.sub("…", json.dumps(dict(value), default=str, ensure_ascii=False)))
    return _IN_URLS.sub("…", str(value))
