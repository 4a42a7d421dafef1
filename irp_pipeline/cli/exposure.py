"""``irp exposure``: the exposure of a cycle at a glance; and OED files, without a cycle or a database."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from irp_pipeline.cli import output
from irp_pipeline.cli.failures import FAILED, CommandError
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, find_cycle, schema_option, working_in
from irp_pipeline.vocabulary import OedTable, Perspective

if TYPE_CHECKING:
    from irp_pipeline.exposure.oed import OedTable
    from irp_pipeline.exposure.validation.findings import Finding

_SHOW = "show"


class _ShownByDefault(TyperGroup):
    """The group: ``irp exposure Q1-2024`` is short for ``irp exposure show Q1-2024``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; what is none is the name of a cycle."""
        if args and args[0] not in self.commands:
            args = [_SHOW, *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_ShownByDefault,
    no_args_is_help=True,
    help="Show the exposure of a cycle at a glance (irp exposure CYCLE), or check OED files.",
)

_SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
# Parts of file names, in the order of the search: "ri_scope" must not count as "ri".
_NAMES = (
    (OedTable.RI_SCOPE, re.compile(r"scope")),
    (OedTable.RI_INFO, re.compile(r"(^|[^a-z])(ri|reins|reinsurance)?_?info|reinsinfo|riinfo")),
    (OedTable.ACCOUNT, re.compile(r"acc|polic")),
    (OedTable.LOCATION, re.compile(r"loc")),
)


def _losses(text: str) -> str:
    for name in text.split(","):
        if name.strip().upper() not in tuple(Perspective):
            raise typer.BadParameter(f"{name.strip()!r} is not one of {', '.join(Perspective)}")
    return text


def _option(table: OedTable) -> Any:
    return typer.Option(
        f"--{table.replace('_', '-')}", metavar="FILE", help=f"The {table} table, whatever the name of the file."
    )


@app.command(_SHOW, epilog="Example: irp exposure show Q1-2024 --portfolio residential")
def show(
    cycle: CycleName,
    portfolio: Annotated[
        str | None, typer.Option("--portfolio", metavar="NAME", help="Only this portfolio; default: all together.")
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="How many values of a field are shown; the others are one row.")
    ] = 8,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Show the exposure of a cycle at a glance: how much of what, how concentrated, how well known, what changed.

    The changes are those since the cycle before by exposure date. irp report draws the map.
    """
    from irp_pipeline.cli.exposure_tables import as_data, print_exposure
    from irp_pipeline.helpers.exposure_profile import find_profile, profiled_cycle_before

    with working_in(db_schema) as schema:
        found = find_cycle(cycle, schema)
        profile = find_profile(found)
        other = profiled_cycle_before(found) if profile else None
        before = find_profile(other) if other else None
    if profile is None:
        raise CommandError(
            f"The exposure of cycle {cycle} has not been profiled yet. To see its progress: irp status {cycle} "
            f"{schema_option(schema)}"
        )
    chosen = profile.whole if portfolio is None else profile.portfolio(portfolio)
    if chosen is None:
        names = ", ".join(item.name for item in profile.portfolios)
        raise CommandError(f"The cycle {cycle} has no portfolio {portfolio!r}. Its portfolios are: {names}")
    earlier = None if before is None else before.whole if portfolio is None else before.portfolio(portfolio)
    name = other.cycle_name if other and earlier else None
    if as_json:
        output.print_json({"schema": schema, "cycle_name": cycle, **as_data(chosen, earlier, name, rows)})
    else:
        print_exposure(chosen, earlier, name, rows)


@app.command(epilog="Example: irp exposure check location.csv account.csv ri_info.csv ri_scope.csv")
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILES", help="CSV or Parquet files; their names say which table they hold."),
    ] = None,
    location: Annotated[Path | None, _option(OedTable.LOCATION)] = None,
    account: Annotated[Path | None, _option(OedTable.ACCOUNT)] = None,
    ri_info: Annotated[Path | None, _option(OedTable.RI_INFO)] = None,
    ri_scope: Annotated[Path | None, _option(OedTable.RI_SCOPE)] = None,
    losses: Annotated[
        str | None,
        typer.Option(
            "--losses",
            metavar="LIST",
            help="The losses to compute, such as GUL,IL; default: those that the tables allow.",
            callback=lambda text: None if text is None else _losses(text),
        ),
    ] = None,
    currency: Annotated[
        str | None, typer.Option("--currency", metavar="CODE", help="The currency that all amounts must be in.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="The encoding of the CSV files, such as cp1252 or utf-16.")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option("--delimiter", help="The character between the cells of the CSV files.")
    ] = None,
    decimal: Annotated[
        str | None, typer.Option("--decimal", metavar="SIGN", help="The decimal sign in the CSV files: '.' or ','.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check OED files: rules of the standard, references between the tables, terms that have no effect.

    The exit status is 1 if there is an error.
    """
    from irp_pipeline.exposure.currencies import CURRENCIES
    from irp_pipeline.exposure.oed import OedTable
    from irp_pipeline.exposure.readers.sources import FileSource
    from irp_pipeline.exposure.validate import Needs, needs_of_perspectives, validate
    from irp_pipeline.exposure.validation.findings import Severity

    if currency is not None and currency.upper() not in CURRENCIES:
        raise typer.BadParameter(f"{currency!r} is not an ISO 4217 currency code", param_hint="--currency")
    named = {
        OedTable.LOCATION: location,
        OedTable.ACCOUNT: account,
        OedTable.RI_INFO: ri_info,
        OedTable.RI_SCOPE: ri_scope,
    }
    tables = _tables(files or [], {table: file for table, file in named.items() if file is not None})
    wanted = [Perspective(name.strip().upper()) for name in losses.split(",")] if losses else _possible_losses(tables)
    needs = needs_of_perspectives(wanted) | Needs(unknown=("the model is not known",))
    sources = {
        table: FileSource(file, encoding, delimiter, decimal, stated_in="the option --{}")
        for table, file in tables.items()
    }
    findings = validate(sources, needs=needs, currency=currency.upper() if currency else None)
    counts = {severity: sum(found.severity is severity for found in findings) for severity in Severity}
    if as_json:
        output.print_json(
            {
                "files": {table.value: str(file) for table, file in tables.items()},
                "losses": wanted,
                **{f"{severity}s": count for severity, count in counts.items()},
                "findings": [_as_data(finding) for finding in findings],
            }
        )
    else:
        _print(findings, [file.name for file in tables.values()], counts.items())
    if counts[Severity.ERROR]:
        raise typer.Exit(FAILED)


def _print(findings: "Sequence[Finding]", files: list[str], counts: "Iterable[tuple[Any, int]]") -> None:
    if findings:
        output.print_table(
            ("Severity", "File", "Row", "OedColumn", "Record", "What", "Check"),
            (
                (
                    output.styled((found.severity.value, _SEVERITY_STYLES[found.severity.value])),
                    found.file,
                    found.row,
                    found.column,
                    found.record,
                    found.message,
                    found.check,
                )
                for found in findings
            ),
        )
    total = ", ".join(output.counted(count, severity.value) for severity, count in counts if count)
    output.print_note(f"{', '.join(files)}: {total or 'nothing was found'}")


def _as_data(finding: "Finding") -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "table": None if finding.table is None else finding.table.value,
        "file": finding.file,
        "row": finding.row,
        "column": finding.column,
        "value": finding.value,
        "record": finding.record,
        "message": finding.message,
    }


def _tables(files: "list[Path]", named: "dict[OedTable, Path]") -> "dict[OedTable, Path]":
    """Which file holds which table.

    Raises:
        typer.BadParameter: a name does not say which table, two files hold the same table, or there is no file.
    """
    found = dict(named)
    for file in files:
        name = file.name.lower()
        table = next((table for table, pattern in _NAMES if pattern.search(name)), None)
        if table is None:
            options = ", ".join(f"--{table.value.replace('_', '-')}" for table in OedTable)
            raise typer.BadParameter(f"The name {file.name!r} does not say which table it holds: use one of {options}.")
        if table in found:
            raise typer.BadParameter(f"{found[table].name!r} and {file.name!r} are both the {table.value} table.")
        found[table] = file
    if not found:
        raise typer.BadParameter("Name the files to check, such as location.csv account.csv.")
    return {table: found[table] for table in OedTable if table in found}


def _possible_losses(tables: "dict[OedTable, Path]") -> list[Perspective]:
    if OedTable.RI_INFO in tables or OedTable.RI_SCOPE in tables:
        return list(Perspective)
    return [Perspective.GUL, Perspective.IL] if OedTable.ACCOUNT in tables else [Perspective.GUL]
