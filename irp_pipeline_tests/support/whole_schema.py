"""A schema with something in every table and files beside it, and all that is in one, to compare two."""

import hashlib
from pathlib import Path
from typing import Any

from irp_pipeline import settings
from irp_pipeline.engines import JobPhase
from irp_pipeline.helpers.audit import begin_entry, end_entry
from irp_pipeline.helpers.batch import recon_batch, submit_batch, track_batch
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.operations.records import TRAIL
from irp_pipeline_tests.support.recording_engine import RESULT, analyses, engine_of, jobs_of, make_batch

ODD_TEXTS = (
    "",
    "\\N",
    "\\.",
    'tab\tline\nreturn\rbackslash\\ quote\' "double" %s %(x)s',
    "Zürich 保険 🌪 \u202e \ufeff ligature ﬁ e\u0301",
    "\x01\x1f\x7f\x85\u2028",
    "NULL",
    "{a,b}",
    "x" * 100_000,
)


_DECIDE = "irp_decide(text, text, text, text, text, text)"


def fill(cycle: str = "Q1") -> None:
    """Make a cycle with a batch of two jobs, one finished and one failed, a step that published a file, and a message.

    A decision about its figures and a command in the trail. These and the message stay if the cycle is deleted.
    """
    batch = make_batch(analyses(2), cycle)
    folder = settings.cycle_dir(get_current_schema(), cycle)
    cycle_id = execute_scalar("SELECT id FROM irp_cycle WHERE cycle_name = %s", (cycle,))
    step_id = get_or_create_step(get_or_create_stage(cycle_id, 6, "Report"), 2, "Cycle report")
    publish(step_id, "first")
    submit_batch(batch)
    first, second = jobs_of(batch)
    engine = engine_of(cycle)
    losses = engine.folder(first["job_key"]) / "output" / "losses.csv"
    losses.parent.mkdir(parents=True)
    losses.write_text("1,2\n")
    entry = {"path": "output/losses.csv", "sha256": hashlib.sha256(b"1,2\n").hexdigest(), "bytes": 4}
    engine.let(first["job_key"], JobPhase.FINISHED, result=RESULT | {"files": {"losses": entry}})
    engine.let(second["job_key"], JobPhase.FAILED, "the footprint has no such event: 'Gebäude'\t\\N")
    track_batch(batch)
    recon_batch(batch)
    execute_command(
        """
        INSERT INTO irp_analysis_result
            (batch_id, analysis_name, is_group, perspective, metric, return_period, loss, currency, job_ids)
        SELECT %s, 'name', false, 'GUL', 'OEP', p, l, 'EUR', ARRAY[1, 2, 9223372036854775807]
          FROM unnest(%s::float8[], %s::float8[]) AS given (p, l)
        """,
        (batch, [1.0, 2.5, 1e300], [0.1 + 0.2, 5e-324, 1.7976931348623157e308]),
    )
    execute_command(
        """
        INSERT INTO irp_attribution (batch_id, earlier_cycle, analysis_name, is_group, perspective, metric, currency,
                                     position, factor, loss_before, loss_after, sampling_error, remark)
        VALUES (%s, 'Q0', 'name', false, 'GUL', 'AAL', 'EUR', 0, 'exposure', 0.1, 0.3, 5e-324, %s)
        """,
        (batch, ODD_TEXTS[3]),
    )
    execute_command(
        """
        INSERT INTO irp_repeated_figure (batch_id, analysis_name, is_group, perspective, metric, return_period,
                                         segment_by, segment, loss, currency, runs, mean, deviation)
        VALUES (%s, 'name', false, 'GUL', 'OEP', 2.5, ARRAY['CountryCode'], ARRAY[%s], 0.1, 'EUR', 3, 0.3, 5e-324)
        """,
        (batch, ODD_TEXTS[3]),
    )
    execute_command(
        "INSERT INTO irp_message (message_key, service, event, title, body) VALUES (%s, 'mailto 1', 'failed', %s, %s)",
        (f"batch/{batch}/FAILED", cycle, "".join(ODD_TEXTS)),
    )
    end_entry(begin_entry("irp run", {"odd": list(ODD_TEXTS[2:3])}, cycle) or 0, None)
    if execute_scalar(f"SELECT has_function_privilege('{_DECIDE}', 'EXECUTE')"):
        execute_scalar(f"SELECT {_DECIDE.partition('(')[0]}(%s, 'REJECTED', 'odd', NULL, 'user', 'host')", (cycle,))
    (folder / "data").mkdir()
    (folder / "configuration.xlsx").write_bytes(bytes(range(256)) * 40)
    (folder / "data" / "Gebäude 保険.csv").write_text("a,b\n" * 1000)
    (folder / "data" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "data" / "run.sh").chmod(0o700)
    (folder / "data" / "empty").mkdir()
    (folder / "data" / "link").symlink_to("run.sh")
    (folder / "data" / "again.csv").hardlink_to(folder / "data" / "Gebäude 保険.csv")
    (folder / "data" / b"not utf-8 \xff".decode(errors="surrogateescape")).touch()


def publish(step_id: int, text: str) -> None:
    """Have a step publish a report."""
    with track_step(step_id, inputs={"text": text}) as run:
        if not run.skipped:
            (run.scratch / "report").mkdir()
            (run.scratch / "report" / "report.html").write_text(text)
            run.add_file(run.scratch / "report" / "report.html")
            run.output["odd"] = list(ODD_TEXTS)


def content_of(schema: str) -> dict[str, Any]:
    """Return all rows of a schema as text, what its counters give next, and its files."""
    return {"rows": rows_of(schema), "files": files_of(settings.cycles_dir(schema))}


def rows_of(schema: str) -> dict[str, Any]:
    """Return all rows of a schema as text, and what its counters give next. Without the trail: a restore keeps it."""
    with schema_context(schema):
        tables = fetch_all(
            "SELECT tablename AS name FROM pg_tables WHERE schemaname = %s AND tablename <> %s ORDER BY tablename",
            (schema, TRAIL),
        )
        rows: dict[str, Any] = {
            table["name"]: [
                row["row"] for row in fetch_all(f'SELECT t::text AS row FROM "{table["name"]}" t ORDER BY 1')
            ]
            for table in tables
        }
        counters = fetch_all(
            "SELECT sequencename AS name FROM pg_sequences WHERE schemaname = %s AND NOT starts_with(sequencename, %s)",
            (schema, TRAIL),
        )
        for counter in counters:
            rows[counter["name"]] = execute_scalar(f'SELECT last_value + is_called::int FROM "{counter["name"]}"')
    return rows


def files_of(folder: Path) -> dict[str, Any]:
    """Return what is below a folder: links by where they lead, files by content, whether they can be run, and time."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = str(path.readlink())
        elif path.is_file():
            status = path.stat()
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = content, status.st_mode & 0o100, status.st_mtime_ns, status.st_nlink
        else:
            found[str(path.relative_to(folder))] = None
    return found
