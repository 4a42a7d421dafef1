"""What a call costs after years of use: the same calls in a schema with few cycles and in one with very many.

Each call picks its cycle or its step by chance from all of them, as no year of real use would: most work is done in
the youngest cycles, whose rows are in memory. The server is asked for its plans as well: none may read a table from
end to end.
"""

import random
import time
from collections.abc import Callable
from typing import Final

from irp_pipeline.helpers.cycle import get_active_cycle, get_cycle_progress
from irp_pipeline.helpers.database import fetch_all, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.step import create_step_run, get_last_step_run, track_step, update_step_run
from irp_pipeline_tests.benchmarks.harness import (
    Options,
    Target,
    Timing,
    measure,
    show_table,
    throw_away_database,
)
from irp_pipeline_tests.benchmarks.many_cycles import Amount, make_cycles
from irp_pipeline_tests.benchmarks.plans import explained_statements

LIMIT: Final = 1.5
FEW: Final = Amount(cycles=100, stages=6, steps=5, runs=10)
MANY: Final = Amount(cycles=10_000, stages=6, steps=5, runs=10)
QUICK_MANY: Final = Amount(cycles=1_000, stages=6, steps=5, runs=10)

_SCHEMAS = ("few", "many")


def run(options: Options) -> list[Target]:
    """Measure at both sizes, print the table and return the targets."""
    amounts = dict(zip(_SCHEMAS, (FEW, QUICK_MANY if options.quick else MANY), strict=True))
    with throw_away_database():
        for schema, amount in amounts.items():
            begin = time.perf_counter()
            with schema_context(schema):
                init_database()
                make_cycles(amount)
            print(f"{schema}: {amount}, made in {time.perf_counter() - begin:.0f} s", flush=True)
        calls = {schema: _calls(schema) for schema in _SCHEMAS}
        timings = {what: _measure(what, calls, options) for what in calls["many"]}
        scanned = [table for call in calls["many"].values() for table in _sequential_scans(call)]
    show_table(
        "Milliseconds a call (medians), and the median of the ratios of all rounds",
        ("", "few", "many", "times as long"),
        [
            (what, f"{few.elapsed_ms:.3f}", f"{many.elapsed_ms:.3f}", f"{many.ratio_to(few):.2f}")
            for what, (few, many) in timings.items()
        ],
    )
    return [
        *(
            Target(f"{what}: times as long among very many cycles", many.ratio_to(few), LIMIT)
            for what, (few, many) in timings.items()
        ),
        Target("tables read from end to end", len(scanned), 0),
    ]


def _measure(what: str, calls: dict[str, dict[str, Callable[[], object]]], options: Options) -> tuple[Timing, Timing]:
    timings = measure({schema: calls[schema][what] for schema in _SCHEMAS}, options.rounds)
    return timings["few"], timings["many"]


def _sequential_scans(call: Callable[[], object]) -> list[str]:
    with explained_statements() as explained:
        call()
    return [table for sent in explained for table in sent.sequential_scans()]


def _calls(schema: str) -> dict[str, Callable[[], object]]:
    """Return the calls in one schema: each picks a cycle or a step by chance."""
    chance = random.Random(0)
    in_schema = schema_context(schema)
    with schema_context(schema):
        cycles = [row["cycle_name"] for row in fetch_all("SELECT cycle_name FROM irp_cycle ORDER BY id")]
        steps = [row["id"] for row in fetch_all("SELECT id FROM irp_step ORDER BY id")]

    def track() -> None:
        with track_step(chance.choice(steps), started_by="analyst", rerun=True) as run:
            run.output["locations"] = 12_598

    def run_step() -> None:
        run_id, _ = create_step_run(chance.choice(steps), "analyst")
        update_step_run(run_id, "COMPLETED")

    return {
        "get_active_cycle": in_schema(get_active_cycle),
        "get_cycle_progress": in_schema(lambda: get_cycle_progress(chance.choice(cycles))),
        "get_last_step_run": in_schema(lambda: get_last_step_run(chance.choice(steps))),
        "create_step_run": in_schema(lambda: create_step_run(chance.choice(steps), "analyst")),
        "create_step_run and update_step_run": in_schema(run_step),
        "track_step": in_schema(track),
    }
