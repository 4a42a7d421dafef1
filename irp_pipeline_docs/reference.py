"""The parts of the reference that come from the code: settings, commands and declarations."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer.main

from irp_pipeline import settings as settings_module
from irp_pipeline.cli import app
from irp_pipeline.columns import Row
from irp_pipeline.engines import ENGINES
from irp_pipeline.helpers.wanted import BATCH_TYPES
from irp_pipeline.plugins import OWN_DISTRIBUTION, Registry
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


def declared() -> str:
    """Return the table of what this project declares itself: engines, batch types, and their requirements."""
    rows = ["| what | name | what it does | columns | needs of the machine |", "| --- | --- | --- | --- | --- |"]
    registries: tuple[Registry[Any], ...] = (ENGINES, BATCH_TYPES)
    for registry in registries:
        for name, declaration in registry.declared().items():
            if registry.distribution_of(name) != OWN_DISTRIBUTION:
                continue
            fields = getattr(declaration, "columns", Row).model_fields
            cells = (
                registry.what,
                f"`{name}`",
                _cell(declaration.help),
                ", ".join(f"`{field}`" for field in fields),
                ", ".join(f"`{requirement.name}`" for requirement in declaration.requirements),
            )
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


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
