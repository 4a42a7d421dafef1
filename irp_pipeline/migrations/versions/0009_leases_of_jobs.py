"""The lease of each job: which worker began it and was last heard of when, and how it ended."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LEASES = """
ALTER TABLE irp_job
    ADD COLUMN lease_token  text,
    ADD COLUMN host         text,
    ADD COLUMN pid          integer,
    ADD COLUMN pid_started  text,
    ADD COLUMN begun_ts     timestamptz,
    ADD COLUMN heartbeat_ts timestamptz,
    -- When somebody first saw that the heartbeat is too old; a heartbeat takes it back.
    ADD COLUMN suspected_ts timestamptz,
    ADD COLUMN doing        text,
    ADD COLUMN cancel_ts    timestamptz,
    ADD COLUMN engine_end   jsonb,
    ADD CONSTRAINT irp_job_lease_check
        CHECK ((lease_token IS NULL OR begun_ts IS NOT NULL) AND (begun_ts IS NULL OR heartbeat_ts IS NOT NULL));
CREATE INDEX irp_job_at_work ON irp_job (host, pid) WHERE begun_ts IS NOT NULL AND engine_end IS NULL;
"""


def upgrade() -> None:
    op.execute(LEASES)


def downgrade() -> None:
    raise NotImplementedError("Records are never thrown away by a migration: restore a backup instead")
