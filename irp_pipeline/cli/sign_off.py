"""``irp approve``, ``irp reject``, ``irp approvals``, ``irp audit``: the sign-off of figures, and the audit trail."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, check_cycle, find_cycle, schema_option, working_in

if TYPE_CHECKING:
    from irp_pipeline.helpers.audit import AuditEntry
    from irp_pipeline.helpers.sign_off import SignOff

app = typer.Typer()

_ENTRIES_SHOWN = 50

Seen = Annotated[
    str | None,
    typer.Option(
        "--seen",
        metavar="HASH",
        help="The hash in the report or in irp status: other figures than those are refused. At least 6 characters.",
    ),
]


@app.command(epilog="Example: irp approve Q1-2024 --seen 3f6c0b12ab9e")
def approve(
    cycle: CycleName,
    seen: Seen = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="A remark; kept with it.")] = None,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Approve the figures of a cycle, as the login of the database.

    With separate roles, a person who can run cycles is refused. If a figure, a job or an input changes later, the
    approval is void.
    """
    from irp_pipeline.helpers import sign_off

    _check_seen(seen)
    with working_in(db_schema) as schema:
        find_cycle(cycle, schema)
        decided = sign_off.approve(cycle, seen, reason)
    _tell(decided, cycle, schema, as_json)


@app.command(epilog='Example: irp reject Q1-2024 --reason "the model has no flood"')
def reject(
    cycle: CycleName,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="The reason; kept with the decision.")],
    seen: Seen = None,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Reject the figures of a cycle, as the login of the database.

    It replaces an approval. Approving them later replaces the rejection.
    """
    from irp_pipeline.helpers import sign_off

    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")
    _check_seen(seen)
    with working_in(db_schema) as schema:
        find_cycle(cycle, schema)
        decided = sign_off.reject(cycle, reason, seen)
    _tell(decided, cycle, schema, as_json)


@app.command(epilog="Example: irp approvals Q1-2024")
def approvals(cycle: CycleName, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Show whether the figures of a cycle are approved, and all decisions about them."""
    from irp_pipeline.helpers.sign_off import NOT_VERIFIED, SHOWN_CHARACTERS, find_sign_off, list_decisions

    with working_in(db_schema) as schema:
        found = find_cycle(cycle, schema)
        state, decisions = find_sign_off(found.id), list_decisions(found.id)
    if as_json:
        output.print_json({"schema": schema, "cycle_name": cycle, "sign_off": state.content(),
                           "decisions": [asdict(decision) for decision in decisions]})  # fmt: skip
        return
    output.say(f"{state}")
    if decisions:
        output.print_table(
            ("Decision", "By", output.with_zone("When", [item.decided_ts for item in decisions]), "Hash", "Reason"),
            (
                (
                    item.decision,
                    item.db_login + ("" if item.is_verified else f" ({NOT_VERIFIED})"),
                    item.decided_ts,
                    item.content_hash[:SHOWN_CHARACTERS],
                    item.reason,
                )
                for item in decisions
            ),
        )


@app.command(epilog="Example: irp audit Q1-2024 --json")
def audit(
    cycle: Annotated[
        str | None,
        typer.Argument(metavar="[CYCLE]", help="Only what is about this cycle.", callback=check_cycle),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show the newest N.")] = _ENTRIES_SHOWN,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Show the audit trail: who did what when, the newest first.

    It has every command that changes something, and each run that was launched in the Dagster UI or by a schedule. A
    cycle that was deleted is still in it.
    """
    from irp_pipeline.helpers.audit import list_entries

    with working_in(db_schema) as schema:
        entries = list_entries(cycle, limit)
    if as_json:
        output.print_json({"schema": schema, "cycle_name": cycle, "entries": [asdict(entry) for entry in entries]})
        return
    if not entries:
        output.print_note(f"Nothing is in the audit trail of schema {schema!r}{f' about {cycle}' if cycle else ''}.")
        return
    output.print_table(
        (output.with_zone("When", [entry.began_ts for entry in entries]), "Login", "User", "Host", "Command", "Cycle",
         "Outcome"),
        (
            (
                entry.began_ts,
                entry.db_login,
                entry.stated_user,
                entry.stated_host,
                _call(entry),
                entry.cycle_name,
                entry.outcome or "began",
            )
            for entry in entries
        ),
    )  # fmt: skip
    output.print_note("Login: known to the database. User and host: as the client says.")


def _call(entry: "AuditEntry") -> str:
    """Return a command with its arguments in one line."""
    given = " ".join(f"{name}={value}" for name, value in entry.arguments.items() if name != "cycle")
    return f"{entry.command} {given}".rstrip()


def _check_seen(seen: str | None) -> None:
    if seen is not None and len(seen) < 6:
        raise typer.BadParameter("at least the first 6 characters are needed", param_hint="--seen")


def _tell(decided: "SignOff", cycle: str, schema: str, as_json: bool) -> None:
    if as_json:
        output.print_json({"schema": schema, "cycle_name": cycle, "sign_off": decided.content()})
        return
    output.say(f"{cycle}, {decided.figures} figures, {decided.short_hash}: {decided}")
    if not decided.is_verified:
        output.print_note(
            "The database cannot tell who decided, since its tables belong to a login. With separate roles it can: see "
            "docs/sign_off.md"
        )
    output.print_note(f"Steps that waited for it: irp run {cycle} {schema_option(schema)}")
