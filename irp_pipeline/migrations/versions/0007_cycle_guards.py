"""Cycles: names that are not case-sensitive, and archiving by a plain UPDATE."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NAMES = """
-- Two cycles that differ in capitals only may exist from before: the newest open one of them keeps the name for itself,
-- the others stay beside it.
ALTER TABLE irp_cycle ADD COLUMN shares_name boolean NOT NULL DEFAULT false;
UPDATE irp_cycle c
   SET shares_name = true
  FROM (SELECT id, row_number() OVER (PARTITION BY lower(cycle_name COLLATE "C")
                                      ORDER BY status, created_ts DESC, id DESC) AS place
          FROM irp_cycle) ranked
 WHERE ranked.id = c.id AND ranked.place > 1;
CREATE UNIQUE INDEX irp_cycle_name_any_case ON irp_cycle (lower(cycle_name COLLATE "C")) WHERE NOT shares_name;
-- For finding a name by another spelling, the shared ones too.
CREATE INDEX irp_cycle_spelling ON irp_cycle (lower(cycle_name COLLATE "C"));
"""

# Table names come from the trigger: the function must work whatever the writer's search path is.
CYCLES = """
CREATE FUNCTION irp_check_cycle() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    other text;
BEGIN
    NEW.archived_ts := CASE WHEN NEW.status = 'ARCHIVED' THEN coalesce(NEW.archived_ts, clock_timestamp()) END;
    IF TG_OP = 'INSERT' OR NEW.cycle_name <> OLD.cycle_name THEN
        EXECUTE format(
            'SELECT cycle_name FROM %I.irp_cycle WHERE lower(cycle_name COLLATE "C") = lower($1 COLLATE "C")'
            ' AND cycle_name <> $1 AND id <> $2 LIMIT 1', TG_TABLE_SCHEMA)
           INTO other USING NEW.cycle_name, NEW.id;
        IF other IS NOT NULL THEN
            RAISE unique_violation USING MESSAGE = format(
                'there is a cycle %L already; names are not case-sensitive', other);
        END IF;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER irp_cycle_checked BEFORE INSERT OR UPDATE ON irp_cycle
    FOR EACH ROW EXECUTE FUNCTION irp_check_cycle();
"""


def upgrade() -> None:
    op.execute(NAMES)
    op.execute(CYCLES)


def downgrade() -> None:
    raise NotImplementedError("Records are never thrown away by a migration: restore a backup instead")
