"""Fills a schema with cycles, stages, steps and step runs, as many as years of use would leave behind.

The rows are made by the server, since a million calls of the helpers would take an hour.
"""

from dataclasses import dataclass

from irp_pipeline.helpers.database import execute_command, execute_scalar


@dataclass(frozen=True)
class Amount:
    """How much to make.

    Attributes:
        cycles: how many cycles. The last three are ACTIVE.
        stages: stages of each cycle.
        steps: steps of each stage.
        runs: runs of each step, all of which have ended; those of every other step are tracked.
    """

    cycles: int
    stages: int
    steps: int
    runs: int

    def __str__(self) -> str:
        all_steps = self.cycles * self.stages * self.steps
        return f"{self.cycles:,} cycles, {all_steps:,} steps, {all_steps * self.runs:,} step runs"


def cycle_name(number: int) -> str:
    """Return the name of a cycle, the first having the number 1."""
    return f"cycle-{number}"


def make_cycles(amount: Amount) -> None:
    """Fill the caller's schema, which must be empty, and let the server count the rows for its plans."""
    execute_command(
        """
        INSERT INTO irp_cycle (cycle_name, status, created_ts, archived_ts)
        SELECT 'cycle-' || n, CASE WHEN n > %s THEN 'ACTIVE' ELSE 'ARCHIVED' END,
               now() - make_interval(hours => %s - n), CASE WHEN n > %s THEN NULL ELSE now() END
          FROM generate_series(1, %s) n
        """,
        (amount.cycles - 3, amount.cycles, amount.cycles - 3, amount.cycles),
    )
    execute_command(
        """
        INSERT INTO irp_stage (cycle_id, stage_num, stage_name)
        SELECT c.id, n, 'Stage ' || n FROM irp_cycle c, generate_series(1, %s) n ORDER BY c.id, n
        """,
        (amount.stages,),
    )
    execute_command(
        """
        INSERT INTO irp_step (stage_id, step_num, step_name, last_run_num)
        SELECT sg.id, n, 'Step ' || n, %s FROM irp_stage sg, generate_series(1, %s) n ORDER BY sg.id, n
        """,
        (amount.runs, amount.steps),
    )
    execute_command(
        """
        INSERT INTO irp_step_run (step_id, run_num, status, started_ts, completed_ts, started_by, error_message,
                                  output_data, tracked, host, pid, input_hash, work_run_num)
        SELECT st.id, n, CASE n % 5 WHEN 0 THEN 'SKIPPED' WHEN 2 THEN 'FAILED' ELSE 'COMPLETED' END,
               now() - interval '1 hour', now(), 'analyst', CASE n % 5 WHEN 2 THEN 'ValueError: no such file' END,
               '{"locations": 12598, "insured_value": 1.5e9}', st.id % 2 = 0, 'worker-1', 4711, md5(st.id::text), n
          FROM irp_step st, generate_series(1, %s) n
         ORDER BY st.id, n
        """,
        (amount.runs,),
    )
    for table in ("irp_cycle", "irp_stage", "irp_step", "irp_step_run"):
        execute_command(f"VACUUM (ANALYZE) {table}")


def make_jobs(jobs: int, figures: int) -> None:
    """Give each cycle a batch with jobs and figures, and let the server count the rows for its plans.

    Args:
        jobs: how many jobs each batch has.
        figures: how many figures each batch has.
    """
    execute_command(
        """
        INSERT INTO irp_configuration (cycle_id, file_name, file_hash, data_folder, status, configuration_data)
        SELECT id, 'configuration.xlsx', md5(id::text), '/data', 'ACTIVE', '{"portfolios": [{"name": "property"}]}'
          FROM irp_cycle
        """
    )
    execute_command(
        """
        INSERT INTO irp_batch (configuration_id, step_id, batch_type, status)
        SELECT c.id, (SELECT min(id) FROM irp_step), 'analysis',
               CASE WHEN cy.status = 'ACTIVE' THEN 'ACTIVE' ELSE 'COMPLETED' END
          FROM irp_configuration c JOIN irp_cycle cy ON cy.id = c.cycle_id
        """
    )
    execute_command(
        """
        INSERT INTO irp_job_configuration (batch_id, job_configuration_data)
        SELECT b.id, jsonb_build_object('name', 'analysis ' || n, 'engine', 'recording', 'portfolio', 'property')
          FROM irp_batch b, generate_series(1, %s) n
        """,
        (jobs,),
    )
    execute_command(
        """
        INSERT INTO irp_job (batch_id, job_configuration_id, status, request_data)
        SELECT batch_id, id, 'FINISHED', '{"exposure_hash": "0"}' FROM irp_job_configuration
        """
    )
    execute_command("INSERT INTO irp_job_tracking_log (job_id, status) SELECT id, 'FINISHED' FROM irp_job")
    execute_command(
        """
        INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, perspective, metric, return_period, loss,
                                         currency, job_ids)
        SELECT b.id, 'analysis 1', false, 'GUL', 'OEP', n, 1e6, 'GBP', '{}' FROM irp_batch b, generate_series(1, %s) n
        """,
        (figures,),
    )
    for table in ("configuration", "batch", "job_configuration", "job", "job_tracking_log", "analysis_result"):
        execute_command(f"VACUUM (ANALYZE) irp_{table}")


def make_large_batch(cycle: str, jobs: int, segments: int) -> int:
    """Give the batch of a cycle many more jobs, with figures of each, and let the server count the rows for its plans.

    Args:
        cycle: a cycle that :func:`make_jobs` gave a batch.
        jobs: how many more jobs: analyses ``large 000001`` and on, with 51 figures each.
        segments: how many segments by country and by occupancy the first of them has.

    Returns:
        The batch.
    """
    batch_id: int = execute_scalar(
        """
        SELECT b.id FROM irp_cycle c JOIN irp_configuration f ON f.cycle_id = c.id
          JOIN irp_batch b ON b.configuration_id = f.id WHERE c.cycle_name = %s
        """,
        (cycle,),
    )
    execute_command(
        """
        INSERT INTO irp_job_configuration (batch_id, job_configuration_data)
        SELECT %s, jsonb_build_object('name', 'large ' || lpad(n::text, 6, '0'), 'engine', 'recording')
          FROM generate_series(1, %s) n
        """,
        (batch_id, jobs),
    )
    execute_command(
        """
        INSERT INTO irp_job (batch_id, job_configuration_id, status, request_data, submitted_ts, completed_ts)
        SELECT batch_id, id, 'FINISHED', '{"exposure_hash": "0"}', now() - interval '1 min', now()
          FROM irp_job_configuration WHERE batch_id = %s AND job_configuration_data ->> 'name' LIKE 'large %'
        """,
        (batch_id,),
    )
    execute_command(
        """
        INSERT INTO irp_job_tracking_log (job_id, status) SELECT id, 'FINISHED' FROM irp_job WHERE batch_id = %s
        """,
        (batch_id,),
    )
    execute_command(
        """
        INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, perspective, metric, return_period, loss,
                                         currency, job_ids)
        SELECT %s, 'large ' || lpad(n::text, 6, '0'), false, perspective, metric, years, n + coalesce(years, 0), 'GBP',
               '{}'
          FROM generate_series(1, %s) n, unnest(ARRAY['GUL', 'IL', 'RI']) perspective,
               (SELECT 'AAL' AS metric, NULL::float8 AS years
                UNION ALL SELECT metric, years FROM unnest(ARRAY['OEP', 'AEP']) metric,
                  unnest(ARRAY[2, 5, 10, 50, 100, 200, 250, 1000]) years) figure
        """,
        (batch_id, jobs),
    )
    execute_command(
        """
        INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, perspective, metric, return_period, loss,
                                         currency, job_ids, segment_by, segment)
        SELECT %s, 'large 000001', false, perspective, metric, CASE metric WHEN 'OEP' THEN 100 END, n, 'GBP', '{}',
               ARRAY[field], ARRAY[lpad(n::text, 6, '0')]
          FROM generate_series(1, %s) n, unnest(ARRAY['GUL', 'IL', 'RI']) perspective,
               unnest(ARRAY['AAL', 'OEP']) metric, unnest(ARRAY['CountryCode', 'OccupancyCode']) field
        """,
        (batch_id, segments),
    )
    for table in ("job_configuration", "job", "job_tracking_log", "analysis_result"):
        execute_command(f"VACUUM (ANALYZE) irp_{table}")
    return batch_id
