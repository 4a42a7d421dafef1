"""Tracked step runs: a fenced lease on the row, and the fingerprint of the work that was done."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE irp_step_run
    ADD COLUMN tracked       boolean NOT NULL DEFAULT false,
    ADD COLUMN lease_token   uuid,
    ADD COLUMN heartbeat_ts  timestamptz,
    ADD COLUMN host          text,
    ADD COLUMN pid           integer,
    ADD COLUMN pid_started   text,
    ADD COLUMN input_hash    text,
    ADD COLUMN work_run_num  integer,
    ADD COLUMN dagster_run_id text,
    ADD CONSTRAINT irp_step_run_lease CHECK (
        NOT (tracked AND status = 'ACTIVE')
        OR (lease_token IS NOT NULL AND heartbeat_ts IS NOT NULL AND host IS NOT NULL AND pid IS NOT NULL)
    );
-- At most one tracked run of a step is at work, whatever the code does.
CREATE UNIQUE INDEX irp_step_run_lease_holder ON irp_step_run (step_id) WHERE tracked AND status = 'ACTIVE';
-- "What did this Dagster run begin last?"
CREATE INDEX irp_step_run_dagster ON irp_step_run (dagster_run_id, started_ts DESC) WHERE dagster_run_id IS NOT NULL;
-- "What did the newest run that counts do?", past any number of skipped ones.
CREATE INDEX irp_step_run_work ON irp_step_run (step_id, run_num DESC) WHERE tracked AND status <> 'SKIPPED';
"""


def upgrade() -> None:
    op.execute(COLUMNS)


def downgrade() -> None:
    raise NotImplementedError("Records are never thrown away by a migration: restore a backup instead")
