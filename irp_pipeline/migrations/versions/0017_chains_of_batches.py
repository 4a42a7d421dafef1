"""Chains of batches: what followed when a batch was complete. Figures of other batches hide no analyses."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

CHAINS = """
-- What `when_complete` of the batch's type returned, and the hash of the results that it was called with.
ALTER TABLE irp_batch ADD COLUMN completion jsonb;

CREATE OR REPLACE VIEW v_irp_results AS
SELECT c.cycle_name, c.status AS cycle_status, b.id AS batch_id, b.id = compared.batch_id AS is_current,
       r.analysis_name, r.is_group, array_to_string(r.segment_by, '+') AS segment_by,
       array_to_string(r.segment, '+') AS segment, r.perspective, r.metric, r.return_period, r.loss_factor, r.loss,
       r.currency, r.created_ts
  FROM irp_cycle c
  JOIN irp_configuration f ON f.cycle_id = c.id
  JOIN irp_batch b ON b.configuration_id = f.id
  JOIN irp_analysis_result r ON r.batch_id = b.id
  -- The batch whose figures reports and comparisons show: analyses before others, that of the active configuration,
  -- else the newest.
  LEFT JOIN LATERAL (
        SELECT cb.id AS batch_id FROM irp_configuration cf JOIN irp_batch cb ON cb.configuration_id = cf.id
         WHERE cf.cycle_id = c.id AND EXISTS (SELECT FROM irp_analysis_result cr WHERE cr.batch_id = cb.id)
         ORDER BY cb.batch_type = 'analysis' DESC, cf.status = 'ACTIVE' DESC, cb.id DESC LIMIT 1) compared ON true;
"""


def upgrade() -> None:
    op.execute(CHAINS)


def downgrade() -> None:
    raise NotImplementedError("Records are never thrown away by a migration: restore a backup instead")
