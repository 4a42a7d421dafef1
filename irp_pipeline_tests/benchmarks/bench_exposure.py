"""From a user's CSV to a portfolio that a job can start on, beside what Oasis LMF takes to compute it by hand.

The pipeline reads the workbook, extracts, checks and builds the portfolio; Oasis LMF runs the same files with
``oasislmf exposure run``. The steps' times are those on record, without Dagster's start; memory is the peak of the
process that ran them.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from irp_pipeline import settings
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import fetch_all, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.orchestration.instance import use_dagster_home
from irp_pipeline.workbook import Workbook, write_workbook
from irp_pipeline_tests.benchmarks.harness import Options, Target, show_table, throw_away_database

LOCATIONS: Final = 100_000
MANY_LOCATIONS: Final = 1_000_000
SHARE_OF_OASIS: Final = 0.15
MEMORY_MB: Final = 500
MEMORY_OF_MANY_MB: Final = 1024
SCHEMA: Final = "bench"

_LOCATIONS_AN_ACCOUNT: Final = 10
_HEADER: Final = (
    "PortNumber,AccNumber,LocNumber,CountryCode,PostalCode,Latitude,Longitude,OccupancyCode,ConstructionCode,"
    "LocPerilsCovered,LocPeril,BuildingTIV,OtherTIV,ContentsTIV,BITIV,LocCurrency,LocDedType6All,LocDed6All,LocLimitType6All,LocLimit6All\n"
)
_PROGRAM: Final = f"""
import sys
from dagster import DagsterInstance
from irp_pipeline.launch import running_cycle
from irp_pipeline.orchestration.instance import use_dagster_home
use_dagster_home()
config = {{
    "loggers": {{"console": {{"config": {{"log_level": "CRITICAL"}}}}}},
    "resources": {{"database": {{"config": {{"db_schema": {SCHEMA!r}}}}}}},
}}
with DagsterInstance.get() as instance:
    with running_cycle(instance, sys.argv[1], config, ["setup", "extract", "process"]) as (run, events):
        failed = [event.step_failure_data.user_failure_data for event in events if event.is_step_failure]
    assert not failed and instance.get_run_by_id(run.run_id).is_success, failed
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024)
"""


def run(options: Options) -> list[Target]:
    """Measure both, print the tables and return the targets."""
    locations = LOCATIONS // 10 if options.quick else LOCATIONS
    many = MANY_LOCATIONS // 10 if options.quick else MANY_LOCATIONS
    rounds = 1 if options.quick else 2
    with pipeline():
        ours, by_hand, peaks = [], [], []
        for number in range(rounds):
            cycle = cycle_with_portfolio(f"of-{locations}-{number}", locations)
            peaks.append(prepare(cycle))
            ours.append(_seconds_by_step(cycle))
            by_hand.append(_oasis_by_hand(settings.cycle_dir(SCHEMA, cycle)))
        large = cycle_with_portfolio(f"of-{many}", many)
        peak_of_many = prepare(large)
        many_seconds = _seconds_by_step(large)
    steps = {name: statistics.median(each[name] for each in ours) for name in ours[0]}
    total, oasis = sum(steps.values()), statistics.median(by_hand)
    show_table(
        "Seconds from CSV to a portfolio that a job can start on",
        ("", f"{locations:,} locations", f"{many:,} locations"),
        [
            *((name, f"{seconds:.2f}", f"{many_seconds[name]:.2f}") for name, seconds in steps.items()),
            ("all steps", f"{total:.2f}", f"{sum(many_seconds.values()):.2f}"),
            ("oasislmf exposure run", f"{oasis:.2f}", ""),
            ("peak memory of the steps, MB", f"{max(peaks):.0f}", f"{peak_of_many:.0f}"),
        ],
    )
    return [
        Target(f"{locations:,} locations: share of oasislmf exposure run", total / oasis, SHARE_OF_OASIS),
        Target(f"{locations:,} locations: peak memory", max(peaks), MEMORY_MB, " MB"),
        Target(f"{many:,} locations: peak memory", peak_of_many, MEMORY_OF_MANY_MB, " MB"),
    ]


@contextmanager
def pipeline() -> Iterator[None]:
    """Have a database and a Dagster instance of one's own during the block."""
    with throw_away_database():
        os.environ["IRP_DAGSTER_DATABASE_URL"] = os.environ["IRP_DATABASE_URL"]
        os.environ.pop("DAGSTER_HOME", None)
        os.environ.pop("IRP_EXECUTOR", None)
        use_dagster_home()
        init_database(SCHEMA)
        yield


def prepare(cycle: str) -> float:
    """Run the steps in a process of their own and return its peak memory in MB."""
    return float(subprocess.check_output([sys.executable, "-c", _PROGRAM, cycle], text=True).split()[-1])


def _seconds_by_step(cycle: str) -> dict[str, float]:
    with schema_context(SCHEMA):
        rows = fetch_all(
            """
            SELECT st.step_name, extract(epoch FROM r.completed_ts - r.started_ts)::float8 AS seconds
              FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id JOIN irp_stage g ON g.id = st.stage_id
              JOIN irp_cycle c ON c.id = g.cycle_id
             WHERE c.cycle_name = %s AND r.status = 'COMPLETED' ORDER BY r.id
            """,
            (cycle,),
        )
    return {row["step_name"]: row["seconds"] for row in rows}


def _oasis_by_hand(folder: Path) -> float:
    program = shutil.which("oasislmf", path=str(Path(sys.executable).parent)) or "oasislmf"
    with tempfile.TemporaryDirectory(prefix="irp-bench-oasis-") as run_folder:
        begin = time.perf_counter()
        subprocess.run(
            [program, "exposure", "run", "--src-dir", folder, "--run-dir", run_folder, "--loss-factor", "0.1"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - begin


def cycle_with_portfolio(name: str, locations: int) -> str:
    """Make a cycle with a made-up portfolio ``p`` and one deterministic analysis ``stress``; return its name."""
    with schema_context(SCHEMA):
        create_cycle(name)
    folder = settings.cycle_dir(SCHEMA, name)
    folder.mkdir(parents=True)
    chance = random.Random(0)
    with (folder / "location.csv").open("w") as file:
        file.write(_HEADER)
        for number in range(locations):
            account, location = divmod(number, _LOCATIONS_AN_ACCOUNT)
            buildings, contents = chance.randrange(50_000, 2_000_000), chance.randrange(5_000, 200_000)
            file.write(
                f"1,A{account:07d},{location + 1},GB,SW{number % 20}A,{50.5 + chance.random():.5f},"
                f"{-1 + chance.random():.5f},{1050 + number % 5},{5050 + number % 5},WTC,WTC,{buildings},0,{contents},"
                f"{contents // 2},GBP,0,{buildings // 100},0,{buildings * 9 // 10}\n"
            )
    with (folder / "account.csv").open("w") as file:
        file.write("PortNumber,AccNumber,AccCurrency,PolNumber,PolPerilsCovered,LayerParticipation,LayerLimit\n")
        for account in range(-(-locations // _LOCATIONS_AN_ACCOUNT)):
            file.write(f"1,A{account:07d},GBP,P{account},WTC,1,100000000\n")
    workbook = Workbook.model_validate(
        {
            "metadata": {"currency": "GBP", "description": "Benchmark"},
            "portfolios": [{"name": "p", "source": "csv", "location": "location.csv", "account": "account.csv"}],
            "analyses": [
                {
                    "name": "stress",
                    "portfolio": "p",
                    "engine": "oasis_deterministic",
                    "loss_factor": [0.1],
                    "perspectives": ["GUL", "IL"],
                }
            ],
        }
    )
    write_workbook(folder / "configuration.xlsx", workbook)
    return name
