"""What ``irp db adopt`` asks and prints, and what ``irp ... show`` prints of adopted rows.

The command itself is in :mod:`irp_pipeline.cli.db`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from irp_pipeline.cli import output
from irp_pipeline.cli.options import make_sure, schema_option

if TYPE_CHECKING:
    from irp_pipeline.helpers.adopted import Kept
    from irp_pipeline.operations.adoption import Adoption


def adopt_schema(schema: str, copy_to: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Adopt a schema of the old framework, or rehearse it, and print what was done."""
    from irp_pipeline.operations.adoption import adopt, is_of_old_framework

    if copy_to is None and not dry_run and is_of_old_framework(schema):
        make_sure(
            f"Turn the tables of the old framework in schema {schema!r} into those of irp-pipeline? The old framework "
            f"cannot work with them afterwards. To see first what is done: irp db adopt --dry-run "
            f"{schema_option(schema)}",
            yes,
            f"Adopting the schema {schema!r}",
        )
    done = adopt(schema, copy_to, dry_run=dry_run)
    if as_json:
        output.print_json({"dry_run": dry_run, **asdict(done)})
    else:
        _tell(done, dry_run)


def print_kept(kept: Sequence[Kept]) -> None:
    """Print what adopted rows had besides, if there is any."""
    if not kept:
        return
    output.say()
    output.say("From the old framework:")
    output.print_table(
        ("Table", "Id", "What"),
        ((row.table, row.id, json.dumps(dict(row.adopted), ensure_ascii=False)) for row in kept),
    )


def _tell(done: Adoption, dry_run: bool) -> None:
    if done.was_done:
        output.say(
            f"The schema {done.schema!r} is one of irp-pipeline already, at version {done.version}: nothing to do."
        )
        return
    total = output.counted(sum(done.rows.values()), "row")
    where = f"schema {done.source!r}" + ("" if done.source == done.schema else f" into {done.schema!r}")
    would = "Would adopt" if dry_run else "Adopted"
    output.say(f"{would} {where}: {total}, each with its id, at version {done.version}.")
    output.say()
    output.print_table(("Table", "Rows"), done.rows.items())
    if done.repaired:
        output.say()
        output.print_table(
            ("Repair", "Table", "Rows", "Ids", "The row now"),
            (
                (
                    repaired.repair,
                    repaired.table,
                    repaired.rows,
                    ", ".join(map(str, repaired.ids)) + (" …" if repaired.rows > len(repaired.ids) else ""),
                    repaired.meaning,
                )
                for repaired in done.repaired
            ),
        )
    for what, names in (("view", done.views), ("foreign key", done.foreign_keys), ("trigger", done.triggers)):
        if names:
            output.print_note(f"Made anew: {output.counted(len(names), what)}: {', '.join(names)}")
    for name, new in (done.renamed_views or {}).items():
        output.print_note(f"Your view {name} is called {new} now, since irp-pipeline has one of that name.")
    if dry_run:
        output.print_note("Nothing was changed: this was tried in a transaction, and taken back.")
