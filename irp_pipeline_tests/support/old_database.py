"""A database as the old single-module framework makes it, and everything that is in one, to compare two.

The tables are made from the description of that framework: enum types, SERIAL ids, varchar columns, foreign keys
without cascade where it has none, and views of a team's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from irp_pipeline import settings
from irp_pipeline.operations.adoption.old_tables import ENUM_TYPES

TYPES = "".join(f"CREATE TYPE {name} AS ENUM {labels!r};" for name, labels in ENUM_TYPES.items())
TABLES = """
CREATE TABLE irp_cycle (
    id SERIAL PRIMARY KEY,
    cycle_name varchar(255) NOT NULL UNIQUE,
    status cycle_status_enum DEFAULT 'ACTIVE',
    created_ts timestamptz DEFAULT now(),
    archived_ts timestamptz
);
CREATE TABLE irp_configuration (
    id SERIAL PRIMARY KEY,
    cycle_id integer NOT NULL REFERENCES irp_cycle ON DELETE CASCADE,
    configuration_file_name varchar(2000) NOT NULL,
    configuration_data jsonb,
    status configuration_status_enum DEFAULT 'NEW',
    file_last_updated_ts timestamptz,
    created_ts timestamptz DEFAULT now(),
    updated_ts timestamptz DEFAULT now()
);
CREATE TABLE irp_stage (
    id SERIAL PRIMARY KEY,
    cycle_id integer NOT NULL REFERENCES irp_cycle ON DELETE CASCADE,
    stage_num integer NOT NULL,
    stage_name varchar(255) NOT NULL,
    created_ts timestamptz DEFAULT now(),
    UNIQUE (cycle_id, stage_num)
);
CREATE TABLE irp_step (
    id SERIAL PRIMARY KEY,
    stage_id integer NOT NULL REFERENCES irp_stage ON DELETE CASCADE,
    step_num integer NOT NULL,
    step_name varchar(255) NOT NULL,
    notebook_path varchar(1000),
    requires_batch boolean DEFAULT false,
    created_ts timestamptz DEFAULT now(),
    UNIQUE (stage_id, step_num)
);
CREATE TABLE irp_step_run (
    id SERIAL PRIMARY KEY,
    step_id integer NOT NULL REFERENCES irp_step ON DELETE CASCADE,
    run_num integer NOT NULL,
    status step_status_enum DEFAULT 'ACTIVE',
    started_ts timestamptz DEFAULT now(),
    completed_ts timestamptz,
    started_by varchar(255),
    error_message text,
    output_data jsonb
);
CREATE TABLE irp_batch (
    id SERIAL PRIMARY KEY,
    step_id integer NOT NULL REFERENCES irp_step,
    configuration_id integer NOT NULL REFERENCES irp_configuration,
    batch_type varchar(255) NOT NULL,
    status batch_status_enum DEFAULT 'INITIATED',
    submitted_ts timestamptz,
    completed_ts timestamptz,
    created_ts timestamptz DEFAULT now(),
    updated_ts timestamptz DEFAULT now()
);
CREATE INDEX idx_batch_open ON irp_batch (status) WHERE status = 'ACTIVE';
CREATE TABLE irp_job_configuration (
    id SERIAL PRIMARY KEY,
    batch_id integer NOT NULL REFERENCES irp_batch,
    configuration_id integer NOT NULL REFERENCES irp_configuration,
    job_configuration_data jsonb NOT NULL,
    skipped boolean DEFAULT false,
    overridden boolean DEFAULT false,
    override_reason_txt varchar(1000),
    parent_job_configuration_id integer REFERENCES irp_job_configuration,
    skipped_reason_txt varchar(1000),
    override_job_configuration_id integer,
    created_ts timestamptz DEFAULT now(),
    updated_ts timestamptz DEFAULT now()
);
CREATE TABLE irp_job (
    id SERIAL PRIMARY KEY,
    batch_id integer NOT NULL REFERENCES irp_batch ON DELETE CASCADE,
    job_configuration_id integer NOT NULL REFERENCES irp_job_configuration,
    moodys_workflow_id varchar(50),
    status job_status_enum DEFAULT 'INITIATED',
    skipped boolean DEFAULT false,
    last_error text,
    parent_job_id integer,
    submitted_ts timestamptz,
    completed_ts timestamptz,
    last_tracked_ts timestamptz,
    created_ts timestamptz DEFAULT now(),
    updated_ts timestamptz DEFAULT now(),
    submission_request jsonb,
    submission_response jsonb
);
CREATE TABLE irp_batch_recon_log (
    id SERIAL PRIMARY KEY,
    batch_id integer NOT NULL REFERENCES irp_batch ON DELETE CASCADE,
    recon_ts timestamptz DEFAULT now(),
    recon_result batch_status_enum NOT NULL,
    recon_summary jsonb
);
CREATE TABLE irp_job_tracking_log (
    id SERIAL PRIMARY KEY,
    job_id integer NOT NULL REFERENCES irp_job ON DELETE CASCADE,
    moodys_workflow_id varchar(50),
    job_status job_status_enum NOT NULL,
    tracked_ts timestamptz DEFAULT now(),
    tracking_data jsonb
);
"""
NEWER_COLUMNS = {
    "irp_step": ("requires_batch",),
    "irp_job": ("last_error", "submission_request", "submission_response"),
    "irp_job_configuration": ("skipped_reason_txt", "override_job_configuration_id"),
}
"""Columns that the earlier state does not have."""

ROWS = """
INSERT INTO irp_cycle (id, cycle_name, status, created_ts, archived_ts) VALUES
    (3, 'Q3-2023', 'ARCHIVED', '2023-10-01 08:00+00', '2023-12-20 17:30:00.123456+01'),
    (5, 'Q4-2023', 'ARCHIVED', '2024-01-02 08:00+00', '2024-03-28 12:00+00'),
    (8, 'Q1-2024', 'ACTIVE', '2024-04-01 08:00+00', NULL);
INSERT INTO irp_stage (id, cycle_id, stage_num, stage_name)
SELECT c.id * 10 + n, c.id, n, name
  FROM irp_cycle c, (VALUES (1, 'Setup'), (2, 'Extract'), (4, 'Submit')) AS s (n, name);
INSERT INTO irp_step (id, stage_id, step_num, step_name, notebook_path, requires_batch)
SELECT id * 10 + n, id, n, 'Step ' || n,
       CASE n WHEN 1 THEN 'workflows/Active_Q1/notebooks/Stage_01_Setup/Step_01_Begin.ipynb' END, n = 2
  FROM irp_stage, generate_series(1, 2) AS n;
INSERT INTO irp_step_run (step_id, run_num, status, started_ts, completed_ts, started_by, error_message, output_data)
SELECT s.id, r.num, r.status::step_status_enum, '2024-04-02 09:00+00'::timestamptz + r.num * interval '1 hour',
       CASE WHEN r.status <> 'ACTIVE' THEN '2024-04-02 09:30:00.5+00'::timestamptz + r.num * interval '1 hour' END,
       'Zoë', CASE r.status WHEN 'FAILED' THEN E'KeyError: ''%(x)s''\\n  line 2' END,
       CASE r.status WHEN 'COMPLETED' THEN '{"rows": 12598, "nothing": null, "loss": 1.50}'::jsonb END
  FROM irp_step s,
       (VALUES (1, 'FAILED'), (2, 'COMPLETED'), (3, 'SKIPPED'), (4, 'ACTIVE')) AS r (num, status)
 WHERE r.status <> 'ACTIVE' OR s.id >= 800;
INSERT INTO irp_configuration (id, cycle_id, configuration_file_name, configuration_data, status, file_last_updated_ts,
                               created_ts, updated_ts)
SELECT id, id, '/data/Active_' || cycle_name || '/files/configuration/' || cycle_name || '.xlsx',
       '{"Metadata": {"Current Date Value": "202403"}, "Portfolios": [{"Portfolio": "CBHU", "x": null}]}',
       'ACTIVE', '2024-03-31 10:00+00', '2024-04-01 10:00+00', '2024-04-01 11:00+00'
  FROM irp_cycle;
INSERT INTO irp_configuration (id, cycle_id, configuration_file_name, configuration_data, status)
VALUES (20, 8, 'first try.xlsx', NULL, 'ERROR'), (21, 8, 'earlier.xlsx', '{"Metadata": {}}', 'VALID');
INSERT INTO irp_batch (id, step_id, configuration_id, batch_type, status, submitted_ts, completed_ts, created_ts,
                       updated_ts)
SELECT c.id * 100 + n, c.id * 100 + 41, c.id, type, b.status::batch_status_enum, '2024-04-03 09:00+00',
       CASE WHEN b.status NOT IN ('ACTIVE', 'INITIATED') THEN '2024-04-03 19:00+00'::timestamptz END,
       '2024-04-03 08:00+00', '2024-04-03 19:00:01+00'
  FROM irp_cycle c,
       (VALUES (1, 'Create EDM', 'COMPLETED'), (2, 'Analysis', 'ACTIVE'), (3, 'Analysis', 'FAILED'),
               (4, 'Grouping', 'CANCELLED'), (5, 'Export', 'ERROR'), (6, 'Export', 'INITIATED'))
       AS b (n, type, status)
 WHERE n <> 6 OR c.id = 8;
INSERT INTO irp_job_configuration (batch_id, configuration_id, job_configuration_data, skipped, overridden,
                                   override_reason_txt, parent_job_configuration_id, skipped_reason_txt)
SELECT b.id, b.configuration_id, jsonb_build_object('Portfolio', 'P' || n, 'none', NULL), n = 12, n = 13,
       CASE n WHEN 13 THEN 'too few samples' END, NULL, CASE n WHEN 12 THEN 'not needed' END
  FROM irp_batch b, generate_series(1, 13) AS n;
UPDATE irp_job_configuration c
   SET parent_job_configuration_id = c.id - 1, override_job_configuration_id = c.id - 1
 WHERE overridden;
INSERT INTO irp_job (batch_id, job_configuration_id, moodys_workflow_id, status, skipped, last_error, submitted_ts,
                     completed_ts, last_tracked_ts, submission_request, submission_response)
SELECT c.batch_id, c.id, 'W' || c.id, s.status, c.skipped, CASE s.status WHEN 'FAILED' THEN 'no such peril' END,
       '2024-04-03 09:01+00', CASE WHEN s.status IN ('FINISHED', 'FAILED') THEN '2024-04-03 10:00+00'::timestamptz END,
       '2024-04-03 10:00:02+00', '{"url": "/jobs", "body": {"a": [1, null]}}', '{"code": 202}'
  FROM (SELECT c.*, row_number() OVER (PARTITION BY batch_id ORDER BY id) AS place FROM irp_job_configuration c) c
  JOIN (SELECT status, row_number() OVER (ORDER BY status) AS place
          FROM unnest(enum_range(NULL::job_status_enum)) AS status) s ON s.place = (c.place - 1) % 11 + 1;
UPDATE irp_job SET parent_job_id = id - 1 WHERE job_configuration_id IN (
    SELECT id FROM irp_job_configuration WHERE overridden);
INSERT INTO irp_job_tracking_log (job_id, moodys_workflow_id, job_status, tracked_ts, tracking_data)
SELECT id, moodys_workflow_id, status, '2024-04-03 10:00:02+00', '{"progress": 100, "eta": null}' FROM irp_job;
INSERT INTO irp_batch_recon_log (batch_id, recon_ts, recon_result, recon_summary)
SELECT id, '2024-04-03 19:00+00', coalesce(status, 'ERROR'), '{"total_configs": 13, "fulfilled": [1, 2]}'
  FROM irp_batch;
SELECT setval(pg_get_serial_sequence(t, 'id'), 5000)
  FROM unnest(ARRAY['irp_cycle', 'irp_stage', 'irp_step', 'irp_step_run', 'irp_configuration', 'irp_batch',
                    'irp_job_configuration', 'irp_job', 'irp_batch_recon_log', 'irp_job_tracking_log']) AS t;
"""

TEAM = """
CREATE TABLE approval (
    cycle integer NOT NULL REFERENCES irp_cycle ON DELETE CASCADE,
    job_id integer REFERENCES irp_job (id) ON DELETE SET NULL,
    remark text
);
INSERT INTO approval SELECT 8, id, 'seen' FROM irp_job WHERE batch_id = 802;
CREATE VIEW v_irp_job AS
SELECT j.id, j.status, j.moodys_workflow_id, b.batch_type, b.status AS batch_status
  FROM irp_job j JOIN irp_batch b ON b.id = j.batch_id
 WHERE j.status <> 'CANCELLED'::job_status_enum OR j.status IN ('ERROR', 'FAILED');
CREATE VIEW v_irp_cycle AS
SELECT c.cycle_name, c.status, count(v.id) FILTER (WHERE v.status = 'FINISHED') AS finished
  FROM irp_cycle c LEFT JOIN v_irp_job v ON true
 GROUP BY c.cycle_name, c.status;
CREATE TABLE team_changes (job integer, at timestamptz DEFAULT now());
CREATE FUNCTION team_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %I.team_changes (job) VALUES ($1)', TG_TABLE_SCHEMA) USING NEW.id;
    RETURN NEW;
END
$$;
CREATE TRIGGER team_changed AFTER UPDATE ON irp_job FOR EACH ROW EXECUTE FUNCTION team_note_change();
"""


def make_old_schema(schema: str, *, earlier: bool = False, rows: str = ROWS, team: str = "") -> None:
    """Make a schema as the old framework does, instead of one that is there.

    Args:
        schema: its name.
        earlier: the earlier state, without the newer columns.
        rows: statements that fill it.
        team: statements for what a team has built around it.
    """
    with connected(schema) as cursor:
        cursor.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE; CREATE SCHEMA "{schema}"')
        cursor.execute(TYPES + TABLES)
        cursor.execute(rows)
        if earlier:
            for table, columns in NEWER_COLUMNS.items():
                for column in columns:
                    cursor.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        if team:
            cursor.execute(team)


def drop_old_schema(schema: str) -> None:
    """Drop such a schema, adopted or not."""
    with connected(schema) as cursor:
        cursor.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


@contextmanager
def connected(schema: str) -> Iterator[Any]:
    """Yield a cursor of a connection of its own, as an old notebook has one, with a search path; commits at the end."""
    args, kwargs = PGDialect_psycopg2().create_connect_args(settings.database_url())
    with closing(psycopg2.connect(*args, **kwargs)) as connection, connection.cursor() as cursor:
        cursor.execute(f"""SET search_path TO "{schema}"; SET timezone TO 'UTC'""")
        yield cursor
        connection.commit()


def ask(schema: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Return the rows of a statement in a schema."""
    with connected(schema) as cursor:
        cursor.execute(query, values or None)
        return list(cursor.fetchall()) if cursor.description else []


def everything_in(schema: str) -> dict[str, Any]:
    """Return all that is in a schema: relations with their columns, constraints, triggers and definitions, and rows."""
    with connected(schema) as cursor:
        cursor.execute(
            """
            SELECT c.relname, c.relkind, c.oid, c.relacl::text,
                   (SELECT array_agg(row(attname, format_type(atttypid, atttypmod), attnotnull)::text ORDER BY attnum)
                      FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
                   (SELECT array_agg(row(conname, pg_get_constraintdef(oid))::text ORDER BY conname)
                      FROM pg_constraint WHERE conrelid = c.oid),
                   (SELECT array_agg(pg_get_triggerdef(oid) ORDER BY tgname)
                      FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal),
                   CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END
              FROM pg_class c WHERE c.relnamespace = %s::regnamespace ORDER BY c.relname
            """,
            (f'"{schema}"',),
        )
        relations = cursor.fetchall()
        found: dict[str, Any] = {"relations": relations}
        for name, kind, *_ in relations:
            if kind == "r":
                cursor.execute(f'SELECT t::text FROM "{name}" t ORDER BY 1')
                found[name] = cursor.fetchall()
            elif kind == "S":
                cursor.execute(f'SELECT last_value, is_called FROM "{name}"')
                found[name] = cursor.fetchall()
        cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'irp_adoption%'")
        found["aside"] = cursor.fetchall()
    return found
