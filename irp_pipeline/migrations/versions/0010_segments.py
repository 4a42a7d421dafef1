"""Figures of segments: the OED fields that part a portfolio, and their values; both are empty for the whole."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SEGMENTS = """
ALTER TABLE irp_analysis_result
    ADD COLUMN segment_by text[] NOT NULL DEFAULT '{}',
    ADD COLUMN segment    text[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT irp_analysis_result_segment_check CHECK (cardinality(segment_by) = cardinality(segment));
-- The whole and each combination of fields are next to each other: readers want one of them.
DROP INDEX irp_analysis_result_figure;
CREATE UNIQUE INDEX irp_analysis_result_figure ON irp_analysis_result
    (batch_id, segment_by, analysis_name, segment, perspective, metric, coalesce(return_period, loss_factor, 0));
"""


def upgrade() -> None:
    op.execute(SEGMENTS)


def downgrade() -> None:
    raise NotImplementedError("Records are never thrown away by a migration: restore a backup instead")
