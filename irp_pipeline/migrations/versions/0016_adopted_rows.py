"""Rows of the old framework: what has no place in these tables, and what was repaired, stays with each row."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

ADOPTED = """
-- Rows that were not adopted have none.
ALTER TABLE irp_cycle             ADD COLUMN adopted jsonb;
ALTER TABLE irp_stage             ADD COLUMN adopted jsonb;
ALTER TABLE irp_step              ADD COLUMN adopted jsonb;
ALTER TABLE irp_step_run          ADD COLUMN adopted jsonb;
ALTER TABLE irp_configuration     ADD COLUMN adopted jsonb;
ALTER TABLE irp_batch             ADD COLUMN adopted jsonb;
ALTER TABLE irp_job_configuration ADD COLUMN adopted jsonb;
ALTER TABLE irp_job               ADD COLUMN adopted jsonb;
ALTER TABLE irp_batch_recon_log   ADD COLUMN adopted jsonb;
ALTER TABLE irp_job_tracking_log  ADD COLUMN adopted jsonb;

-- An adopted cycle keeps its name, whatever it is. The name of a new one is checked as before.
ALTER TABLE irp_cycle
    DROP CONSTRAINT irp_cycle_cycle_name_check,
    ADD CONSTRAINT irp_cycle_cycle_name_check CHECK (
        adopted IS NOT NULL AND cycle_name <> ''
        OR (cycle_name ~ '^[A-Za-z0-9_.-]{1,100}$' AND cycle_name <> '.' AND position('..' IN cycle_name) = 0)
    );
"""


def upgrade() -> None:
    op.execute(ADOPTED)


def downgrade() -> None:
    raise NotImplementedError("Records are never thrown away by a migration: restore a backup instead")
