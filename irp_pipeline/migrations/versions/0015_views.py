"""Views for people and BI tools: cycles, steps, jobs, results and files, with the names of what they belong to.

They have no parameters of jobs, workbooks, requests, results as engines report them, or messages. A role that may read
only the views reads nothing else: a view works with the rights of its owner.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

VIEWS = """
CREATE VIEW v_irp_cycle_progress AS
SELECT c.cycle_name, c.status AS cycle_status, c.created_ts, c.archived_ts,
       f.configuration_data #>> '{metadata,exposure_date}' AS exposure_date,
       of_steps.steps, of_steps.steps_done, of_steps.steps_failed, of_steps.steps_at_work, of_steps.last_completed_ts,
       of_jobs.batch_id, of_jobs.batch_status, of_jobs.jobs, of_jobs.jobs_finished, of_jobs.jobs_failed
  FROM irp_cycle c
  LEFT JOIN irp_configuration f ON f.cycle_id = c.id AND f.status = 'ACTIVE'
  CROSS JOIN LATERAL (
        SELECT count(*) AS steps,
               count(*) FILTER (WHERE newest.status IN ('COMPLETED', 'SKIPPED')) AS steps_done,
               count(*) FILTER (WHERE newest.status = 'FAILED') AS steps_failed,
               count(*) FILTER (WHERE newest.status = 'ACTIVE') AS steps_at_work,
               max(newest.completed_ts) FILTER (WHERE newest.status IN ('COMPLETED', 'SKIPPED')) AS last_completed_ts
          FROM irp_stage sg
          JOIN irp_step st ON st.stage_id = sg.id
          LEFT JOIN LATERAL (SELECT r.status, r.completed_ts FROM irp_step_run r
                              WHERE r.step_id = st.id ORDER BY r.run_num DESC LIMIT 1) newest ON true
         WHERE sg.cycle_id = c.id) of_steps
  -- The newest batch of analyses, whatever the workbook asks for now; skipped jobs are not counted.
  LEFT JOIN LATERAL (
        SELECT b.id AS batch_id, b.status AS batch_status, count(j.id) AS jobs,
               count(j.id) FILTER (WHERE j.status = 'FINISHED') AS jobs_finished,
               count(j.id) FILTER (WHERE j.status IN ('FAILED', 'ERROR', 'CANCELLED')) AS jobs_failed
          FROM (SELECT b.id, b.status FROM irp_configuration bf JOIN irp_batch b ON b.configuration_id = bf.id
                 WHERE bf.cycle_id = c.id AND b.batch_type = 'analysis' ORDER BY b.id DESC LIMIT 1) b
          LEFT JOIN irp_job j ON j.batch_id = b.id AND NOT j.skipped
         GROUP BY b.id, b.status) of_jobs ON true;

CREATE VIEW v_irp_steps AS
SELECT c.cycle_name, c.status AS cycle_status, sg.stage_num, sg.stage_name, st.step_num, st.step_name,
       newest.run_num, newest.status, newest.started_ts, newest.completed_ts,
       extract(epoch FROM newest.completed_ts - newest.started_ts)::double precision AS seconds,
       newest.started_by, newest.reason, newest.error_message, newest.dagster_run_id
  FROM irp_cycle c
  JOIN irp_stage sg ON sg.cycle_id = c.id
  JOIN irp_step st ON st.stage_id = sg.id
  LEFT JOIN LATERAL (SELECT r.* FROM irp_step_run r
                      WHERE r.step_id = st.id ORDER BY r.run_num DESC LIMIT 1) newest ON true;

CREATE VIEW v_irp_jobs AS
SELECT c.cycle_name, c.status AS cycle_status, b.id AS batch_id, b.batch_type, b.status AS batch_status,
       j.id AS job_id, p.job_configuration_data ->> 'name' AS analysis_name,
       p.job_configuration_data ->> 'portfolio' AS portfolio, p.job_configuration_data ->> 'engine' AS engine,
       p.job_configuration_data ->> 'model' AS model, j.status, j.skipped, p.overridden, p.override_reason,
       j.created_ts, j.submitted_ts, j.completed_ts,
       extract(epoch FROM j.completed_ts - j.submitted_ts)::double precision AS seconds,
       j.parent_job_id AS replaces_job_id, j.work_job_id AS result_of_job_id, j.error_message
  FROM irp_job j
  JOIN irp_job_configuration p ON p.id = j.job_configuration_id
  JOIN irp_batch b ON b.id = j.batch_id
  JOIN irp_configuration f ON f.id = b.configuration_id
  JOIN irp_cycle c ON c.id = f.cycle_id;

CREATE VIEW v_irp_results AS
SELECT c.cycle_name, c.status AS cycle_status, b.id AS batch_id, b.id = compared.batch_id AS is_current,
       r.analysis_name, r.is_group, array_to_string(r.segment_by, '+') AS segment_by,
       array_to_string(r.segment, '+') AS segment, r.perspective, r.metric, r.return_period, r.loss_factor, r.loss,
       r.currency, r.created_ts
  FROM irp_cycle c
  JOIN irp_configuration f ON f.cycle_id = c.id
  JOIN irp_batch b ON b.configuration_id = f.id
  JOIN irp_analysis_result r ON r.batch_id = b.id
  -- The batch whose figures reports and comparisons show: that of the active configuration, else the newest.
  LEFT JOIN LATERAL (
        SELECT cb.id AS batch_id FROM irp_configuration cf JOIN irp_batch cb ON cb.configuration_id = cf.id
         WHERE cf.cycle_id = c.id AND EXISTS (SELECT FROM irp_analysis_result cr WHERE cr.batch_id = cb.id)
         ORDER BY cf.status = 'ACTIVE' DESC, cb.id DESC LIMIT 1) compared ON true;

CREATE VIEW v_irp_artefacts AS
SELECT c.cycle_name, c.status AS cycle_status, sg.stage_num, sg.stage_name, st.step_num, st.step_name, r.run_num,
       r.run_num = done.run_num AS is_current, a.artefact_key, a.bytes, a.sha256, a.content_hash, a.created_ts
  FROM irp_artefact a
  JOIN irp_step_run r ON r.id = a.step_run_id
  JOIN irp_step st ON st.id = r.step_id
  JOIN irp_stage sg ON sg.id = st.stage_id
  JOIN irp_cycle c ON c.id = sg.cycle_id
  LEFT JOIN LATERAL (SELECT d.run_num FROM irp_step_run d
                      WHERE d.step_id = st.id AND d.status = 'COMPLETED'
                      ORDER BY d.run_num DESC LIMIT 1) done ON true;
"""


def upgrade() -> None:
    op.execute(VIEWS)


def downgrade() -> None:
    raise NotImplementedError("Records are never thrown away by a migration: restore a backup instead")
