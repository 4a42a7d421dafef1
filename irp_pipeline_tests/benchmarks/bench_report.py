"""What the report of a large cycle costs: time to write it, memory of the process, and size of the page.

The portfolio goes through the real steps up to the stage Process. The figures are rows that the server makes: one
analysis with three kinds of segments, as many of them as an analysis may have; both cycles have them, so that they are
compared, too.
"""

import json
import subprocess
import sys
from typing import Final

from irp_pipeline.exposure.segment_fields import MOST_SEGMENTS
from irp_pipeline.helpers.database import execute_command, execute_scalar
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline_tests.benchmarks.bench_exposure import LOCATIONS, SCHEMA, cycle_with_portfolio, pipeline, prepare
from irp_pipeline_tests.benchmarks.harness import Options, Target, show_table

SECONDS: Final = 5.0
MEGABYTES_OF_PAGE: Final = 3.0
_LEVELS: Final = ("OccupancyCode", "PostalCode", "ConstructionCode")
_PROGRAM: Final = """
import json, pathlib, resource, sys, tempfile, time
from irp_pipeline.helpers.db_context import set_schema
from irp_pipeline.report import write_report
set_schema(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    begin = time.perf_counter()
    page = write_report(sys.argv[2], pathlib.Path(folder))
    seconds, size = time.perf_counter() - begin, page.stat().st_size / 1e6
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, size]))
"""


def run(options: Options) -> list[Target]:
    """Measure, print the table and return the targets."""
    locations, segments = (LOCATIONS // 10, 60) if options.quick else (LOCATIONS, MOST_SEGMENTS)
    with pipeline():
        for name in ("Q1", "Q2"):
            prepare(cycle_with_portfolio(name, locations))
        with schema_context(SCHEMA):
            figures = _make_figures(segments // len(_LEVELS))
        rows = [_measured("Q2") for _ in range(2)]
    seconds, cpu, memory, size = min(rows)
    show_table(
        f"The report of {locations:,} locations, with {figures:,} figures in two cycles",
        ("seconds", "CPU", "MB of memory", "MB of page"),
        [(f"{seconds:.2f}", f"{cpu:.2f}", f"{memory:.0f}", f"{size:.2f}")],
    )
    return [
        Target("writing the report", seconds, SECONDS, " s"),
        Target("size of the page", size, MEGABYTES_OF_PAGE, " MB"),
    ]


def _measured(cycle: str) -> tuple[float, float, float, float]:
    command = [sys.executable, "-c", _PROGRAM, SCHEMA, cycle]
    seconds, cpu, memory, size = json.loads(subprocess.check_output(command, text=True))
    return seconds, cpu, memory, size


def _make_figures(segments: int) -> int:
    """Let the jobs of both cycles be finished, with so many segments of each kind, in three perspectives."""
    execute_command(
        """
        UPDATE irp_job SET status = 'FINISHED', completed_ts = now(), result_data = jsonb_build_object(
            'currency', 'GBP', 'files', '{}'::jsonb,
            'figures', '[{"perspective": "GUL", "metric": "AAL", "loss": 1}]'::jsonb,
            'provenance', '{"engine": "made up", "periods": 10000, "samples": 10}'::jsonb)
        """
    )
    execute_command("UPDATE irp_batch SET status = 'COMPLETED', completed_ts = now()")
    execute_command(
        """
        INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, segment_by, segment, perspective, metric,
                                         return_period, loss, currency, job_ids)
        SELECT b.id, 'stress', false, level.fields, level.segment, p, m.metric, m.years,
               1e5 * (1 + b.id * random()) * coalesce(m.years, 5), 'GBP', ARRAY[j.id]
          FROM irp_batch b JOIN irp_job j ON j.batch_id = b.id,
               (SELECT '{}'::text[] AS fields, '{}'::text[] AS segment
                UNION ALL
                SELECT ARRAY[of], ARRAY['segment ' || n] FROM unnest(%s) of, generate_series(1, %s) n) level,
               unnest('{GUL,IL,RI}'::text[]) p,
               (SELECT 'AAL' AS metric, NULL::float8 AS years
                UNION ALL SELECT 'STD_DEV', NULL
                UNION ALL SELECT metric, years FROM unnest('{OEP,AEP}'::text[]) metric,
                                                    unnest('{2,5,10,25,50,100,200,250,500,1000}'::float8[]) years) m
        """,
        (list(_LEVELS), segments),
    )
    execute_command("ANALYZE irp_analysis_result")
    return int(execute_scalar("SELECT count(*) FROM irp_analysis_result"))
