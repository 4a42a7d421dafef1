"""The parts of the reference that come from the code: settings and commands."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer.main

from irp_pipeline import settings as settings_module
from irp_pipeline.cli import app
from irp_pipeline_docs.roles import plain

_RULE = re.compile(r"^=+ +=+$", re.MULTILINE)


def variables() -> dict[str, str]:
    """Return the environment variables and what they mean, from the docstring of the settings."""
    _, rows, _ = _RULE.split(inspect.getdoc(settings_module) or "", maxsplit=2)
    meanings: dict[str, str] = {}
    name = ""
    for line in rows.strip().splitlines():
        if found := re.match(r"``([^`]+)``\s*(.*)", line):
            name, meaning = found[1], found[2]
        else:
            meaning = line
        meanings[name] = f"{meanings.get(name, '')} {meaning.strip()}".strip()
    return meanings


def settings() -> str:
    """Return the table of settings."""
    rows = (f"| `{name}` | {_cell(plain(meaning))} |" for name, meaning in variables().items())
    return "\n".join(["| variable | meaning (default) |", "| --- | --- |", *rows])


def commands() -> str:
    """Return a section for each command: what it does, how to call it, its arguments and options."""
    return "\n\n".join(_command(path, command) for path, command in all_commands(typer.main.get_command(app)))


def all_commands(group: Any, path: tuple[str, ...] = ("irp",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield all commands of a group, each with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from all_commands(command, (*path, name))
        else:
            yield (*path, name), command


def _command(path: tuple[str, ...], command: Any) -> str:
    context = command.make_context(" ".join(path), [], resilient_parsing=True)
    usage = re.sub(r"\{(\w+)\}", r"\1", " ".join(command.collect_usage_pieces(context)))
    parts = [f"## {' '.join(path)}", plain(inspect.cleandoc(command.help or ""))]
    parts.append(f"```text\n{' '.join(path)} {usage}\n```")
    rows = [_parameter(parameter, context) for parameter in command.get_params(context)]
    parts.append("\n".join(["| argument or option | meaning |", "| --- | --- |", *rows]))
    if command.epilog:
        parts.append(re.sub(r"Example: (.*)", r"Example: `\1`", command.epilog))
    return "\n\n".join(parts)


def _parameter(parameter: Any, context: Any) -> str:
    name, meaning = parameter.get_help_record(context) or ("--help", "Show this message and exit.")
    return f"| `{re.sub(' <[a-z]+>', '', name)}` | {_cell(plain(meaning))} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
