"""What a comparison of two large cycles costs: time, and memory of the process.

The rows are made by the server: 100 analyses with three kinds of segments each, more figures than 100,000 locations
give. Each comparison runs in a process of its own, so that its memory is its own.
"""

import json
import subprocess
import sys
from typing import Final

from irp_pipeline.helpers.database import execute_command, execute_scalar, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline_tests.benchmarks.harness import Options, Target, show_table, throw_away_database
from irp_pipeline_tests.benchmarks.many_cycles import Amount, cycle_name, make_cycles, make_jobs

SECONDS: Final = 10.0
MEGABYTES: Final = 1024.0
_SCHEMA: Final = "large"
_LEVELS: Final = ("CountryCode", "OccupancyCode", "LOB")
_WAYS: Final = {
    "compare_cycles, all figures": "compare_cycles({name!r})",
    "for the report and the table": "compare_with_cycle_before({name!r})",
}

_MEASURED = """
import json, resource, time
from irp_pipeline.helpers.db_context import set_schema
from irp_pipeline.helpers.comparison import compare_cycles, compare_with_cycle_before
set_schema({schema!r})
begin = time.perf_counter()
found = {call}
seconds = time.perf_counter() - begin
figures = found["figures"] if isinstance(found, dict) else found.figures
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, len(figures)]))
"""


def run(options: Options) -> list[Target]:
    """Measure, print the table and return the targets."""
    analyses = 10 if options.quick else 100
    with throw_away_database(), schema_context(_SCHEMA):
        init_database()
        make_cycles(Amount(cycles=2, stages=6, steps=2, runs=1))
        make_jobs(jobs=analyses, figures=0)
        figures = _make_figures(analyses)
        print(f"{figures:,} figures in two cycles", flush=True)
        measured = {what: _measured(call.format(name=cycle_name(2))) for what, call in _WAYS.items()}
    show_table(
        "One comparison in a process of its own",
        ("", "seconds", "CPU", "MB", "figures compared"),
        [
            (what, f"{seconds:.2f}", f"{cpu:.2f}", f"{size:.0f}", f"{rows:,}")
            for what, (seconds, cpu, size, rows) in measured.items()
        ],
    )
    return [
        target
        for what, (seconds, _, size, _) in measured.items()
        for target in (Target(what, seconds, SECONDS, " s"), Target(f"{what}: memory", size, MEGABYTES, " MB"))
    ]


def _measured(call: str) -> tuple[float, float, float, int]:
    code = _MEASURED.format(schema=_SCHEMA, call=call)
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, cpu, size, rows = json.loads(answer.stdout)
    return seconds, cpu, size, rows


def _make_figures(analyses: int, segments: int = 50) -> int:
    """Fill both cycles: whole portfolios and three kinds of segments, three perspectives, thirty figures each."""
    execute_command(
        """
        INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, segment_by, segment, perspective, metric,
                                         return_period, loss, currency, job_ids)
        SELECT b.id, 'analysis ' || a, false, level.fields, level.segment, p, m.metric, m.years,
               1e6 * a * (1 + b.id * random()), 'GBP', ARRAY[a]::bigint[]
          FROM irp_batch b, generate_series(1, %s) a,
               (SELECT '{}'::text[] AS fields, '{}'::text[] AS segment
                UNION ALL
                SELECT ARRAY[of], ARRAY['segment ' || n] FROM unnest(%s) of, generate_series(1, %s) n) level,
               unnest('{GUL,IL,RI}'::text[]) p,
               (SELECT 'AAL' AS metric, NULL::float8 AS years
                UNION ALL SELECT 'STD_DEV', NULL
                UNION ALL SELECT metric, 10 * n FROM unnest('{OEP,AEP}'::text[]) metric, generate_series(1, 14) n) m
        """,
        (analyses, list(_LEVELS), segments),
    )
    execute_command("VACUUM (ANALYZE) irp_analysis_result")
    return int(execute_scalar("SELECT count(*) FROM irp_analysis_result"))
