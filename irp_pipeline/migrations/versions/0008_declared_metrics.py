"""Figures of metrics that distributions declare, beside those of this project."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

METRICS = """
ALTER TABLE irp_analysis_result
    DROP CONSTRAINT irp_analysis_result_metric_check,
    DROP CONSTRAINT irp_analysis_result_check,
    DROP CONSTRAINT irp_analysis_result_check1,
    ADD CONSTRAINT irp_analysis_result_metric_check CHECK (metric ~ '^[A-Z][A-Z0-9_]{0,49}$'),
    -- Another metric may have a return period, and has no loss factor.
    ADD CONSTRAINT irp_analysis_result_return_period_check
        CHECK (metric NOT IN ('AAL', 'STD_DEV', 'OEP', 'AEP', 'LOSS')
               OR (metric IN ('OEP', 'AEP')) = (return_period IS NOT NULL)),
    ADD CONSTRAINT irp_analysis_result_loss_factor_check CHECK ((metric = 'LOSS') = (loss_factor IS NOT NULL));
"""


def upgrade() -> None:
    op.execute(METRICS)


def downgrade() -> None:
    raise NotImplementedError("Records are never thrown away by a migration: restore a backup instead")
