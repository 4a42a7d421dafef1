"""The arguments and options that several commands share.

The helpers check names; an invalid name is wrong usage, exit status 2.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.failures import FAILED, CommandError

if TYPE_CHECKING:
    from irp_pipeline.helpers.cycle import Cycle


def check_schema(name: str | None) -> str | None:
    """Return the name if a schema can have it: the callback of an option."""
    from irp_pipeline.helpers.db_context import check_schema_name

    if name is None:
        return None
    try:
        return check_schema_name(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def check_cycle(ctx: typer.Context, name: str | None) -> str | None:
    """Return the name if a cycle can have it: the callback of an argument."""
    if name is None or ctx.resilient_parsing:  # the shell asks for completions
        return name
    from irp_pipeline.helpers.cycle import CycleError, check_cycle_name

    try:
        return check_cycle_name(name)
    except CycleError as error:
        if _is_on_record(ctx, name):
            return name
        raise typer.BadParameter(str(error)) from None


def _is_on_record(ctx: typer.Context, name: str) -> bool:
    """Tell whether there is a cycle of a name that a new one cannot have: an adopted one keeps its name."""
    from irp_pipeline.errors import IrpError
    from irp_pipeline.helpers.cycle_lookup import find_cycle as cycle_on_record

    try:
        with working_in(ctx.params.get("db_schema")):
            return cycle_on_record(name) is not None
    except IrpError:
        return False


def check_cycle_names(ctx: typer.Context, names: list[str] | None) -> list[str]:
    """Return the names if cycles can have them: the callback of an argument that takes several."""
    return [name for name in names or () if check_cycle(ctx, name) is not None]


DbSchema = Annotated[
    str | None,
    typer.Option(
        "--db-schema",
        metavar="SCHEMA",
        help="The PostgreSQL schema to work in; default: DB_SCHEMA, or public.",
        callback=check_schema,
        is_eager=True,  # the names of cycles are looked up in it
    ),
]

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Answer with one JSON object, for programs.", callback=output.remember_json),
]

OnlyAnalyses = Annotated[
    list[str] | None,
    typer.Option("--analysis", metavar="NAME", help="Only this analysis; may be repeated."),
]

RerunJobs = Annotated[bool, typer.Option("--rerun", help="Run all jobs again, such as after an update of the engine.")]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

CycleName = Annotated[
    str,
    typer.Argument(metavar="CYCLE", help="Name of the cycle, such as Q1-2024.", callback=check_cycle),
]

SchemaName = Annotated[
    str | None,
    typer.Argument(metavar="SCHEMA", help="Name of the schema.", callback=check_schema),
]


@contextmanager
def working_in(db_schema: str | None) -> Iterator[str]:
    """Work in the schema that the command names, else in that of the context, DB_SCHEMA or public.

    Yields:
        Its name.

    Raises:
        CommandError: DB_SCHEMA is not the name of a schema.
    """
    from irp_pipeline.helpers.db_context import get_current_schema, schema_context

    try:
        schema = db_schema if db_schema is not None else get_current_schema()
    except ValueError as error:
        raise CommandError(f"{error}. Correct it or unset it, or say --db-schema") from None
    with schema_context(schema):
        yield schema


def find_cycle(cycle: str, schema: str) -> "Cycle":
    """Return a cycle of the schema that the context names.

    Raises:
        CommandError: there is no cycle of that name.
    """
    from irp_pipeline.helpers import cycle as cycles

    found = cycles.find_cycle(cycle)
    if found is None:
        raise cycle_not_found(cycle, schema)
    return found


def require_cycles(schema: str, *cycles: str | None) -> None:
    """Refuse names without a cycle in the schema that the context names; None is no name.

    Raises:
        CommandError: there is no cycle of a name.
    """
    for name in cycles:
        if name is not None:
            find_cycle(name, schema)


def cycle_not_found(cycle: str, schema: str) -> CommandError:
    """Return the error for a cycle that is not in the schema that the context names."""
    from difflib import get_close_matches

    from irp_pipeline.helpers.cycle import list_cycle_names, other_spelling

    if (other := other_spelling(cycle)) is not None:
        return CommandError(
            f"There is no cycle {cycle!r} in schema {schema!r}. There is a cycle {other!r}; names are not "
            "case-sensitive: write it like that"
        )
    alike = get_close_matches(cycle, list_cycle_names())
    question = f" Did you mean {' or '.join(alike)}?" if alike else ""
    return CommandError(
        f"There is no cycle {cycle!r} in schema {schema!r}.{question} To list the cycles: irp cycle list "
        f"{schema_option(schema)}"
    )


def make_sure(question: str, yes: bool, doing: str) -> None:
    """Ask before something is lost.

    Args:
        question: a question to answer with yes or no.
        yes: whether ``--yes`` has answered it already.
        doing: what needs the answer, as the beginning of a sentence.

    Raises:
        CommandError: there is no terminal to ask on.
        typer.Exit: the answer is no.
    """
    if yes:
        return
    answer = output.ask(question)
    if answer is None:
        raise CommandError(f"{doing} needs a yes, and there is no terminal to ask on: say --yes if you mean it")
    if not answer:
        output.print_note("Nothing was changed.")
        raise typer.Exit(FAILED)


def schema_option(schema: str) -> str:
    """Return the option that names a schema, ready to be copied into a shell."""
    import shlex

    return f"--db-schema {shlex.quote(schema)}"
