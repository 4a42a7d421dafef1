"""Extracting a location table from PostgreSQL to Parquet, beside ``pandas.read_sql`` and ``to_parquet``.

Each contestant runs in a process of its own, in alternating rounds; imports are done before its clock starts. Where
the machine has not the memory that pandas needs for the whole table, it reads in chunks through a server-side cursor,
which is as fast.

On its own: ``python -m irp_pipeline_tests.benchmarks.bench_extract [--rows N] [--rounds N] [--url URL]``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import psutil
import sqlalchemy as sa

from irp_pipeline_tests.benchmarks.harness import (
    Options,
    Target,
    connect,
    show_table,
    show_targets,
    throw_away_database,
)

ROWS: Final = 5_000_000
QUICK_ROWS: Final = 100_000
TIMES_FASTER: Final = 3
MEMORY_MB: Final = 500
# Seen: 2.8 kB a row of this table.
PANDAS_BYTES_PER_ROW: Final = 3_200

EXTRACT, TOTALS, PANDAS, CHUNKS = "extract", "extract with totals", "pandas", "pandas in chunks"

# 27 columns of text, numbers and integers, some mostly empty.
_TABLE = """
CREATE TABLE bench_location AS
SELECT (1 + (i / 10) % 3)::text AS portnumber, 'A' || lpad((i / 10)::text, 7, '0') AS accnumber,
       lpad((i % 10)::text, 3, '0') AS locnumber, 'Location ' || i AS locname, 'US' AS countrycode,
       lpad((i % 99999)::text, 5, '0') AS postalcode, (ARRAY['FL', 'TX', 'CA', 'LA'])[1 + i % 4] AS areacode,
       (ARRAY['Miami', 'Houston', 'Los Angeles', 'New Orleans'])[1 + i % 4] AS city,
       i || ' Main Street' AS streetaddress, 25 + random() * 20 AS latitude, -120 + random() * 40 AS longitude,
       1050 + i % 30 AS occupancycode, 5050 + i % 30 AS constructioncode, 1950 + i % 70 AS yearbuilt,
       1 + i % 20 AS numberofstoreys, random() * 500 AS floorarea,
       (ARRAY['WTC', 'WTC;WSS', 'AA1', 'QEQ;QFF'])[1 + i % 4] AS locperilscovered,
       (ARRAY['WTC', 'WTC;WSS', 'AA1', 'QEQ;QFF'])[1 + i % 4] AS locperil,
       round((random() * 1e6)::numeric, 2)::float8 AS buildingtiv,
       round((random() * 1e5)::numeric, 2)::float8 AS othertiv,
       round((random() * 5e5)::numeric, 2)::float8 AS contentstiv,
       round((random() * 2e5)::numeric, 2)::float8 AS bitiv, 'USD' AS loccurrency,
       CASE WHEN i % 3 = 0 THEN round((random() * 1e4)::numeric, 2)::float8 END AS locded6all,
       CASE WHEN i % 5 = 0 THEN 1 ELSE 0 END AS locdedtype6all, NULL::float8 AS loclimit6all, '4.0.0' AS oedversion
FROM generate_series(1, {rows}) AS i
"""
_CONTESTANT = """
import json, sys, time
from pathlib import Path

kind, url, file = sys.argv[1:]
query = "SELECT * FROM bench_location"
import pyarrow.parquet as pq, sqlalchemy as sa
if kind.startswith("pandas"):
    import pandas, psycopg2, pyarrow.pandas_compat
else:
    import adbc_driver_postgresql.dbapi, pyarrow.compute
    from irp_pipeline.exposure.extract import extract
    from irp_pipeline.exposure.oed import OedTable
    from irp_pipeline.exposure.readers.sources import QuerySource

started = time.perf_counter()
if kind == "pandas":
    engine = sa.create_engine(url)
    pandas.read_sql(query, engine).to_parquet(file)
elif kind == "pandas in chunks":
    engine = sa.create_engine(url).execution_options(stream_results=True)
    writer = None
    for chunk in pandas.read_sql(query, engine, chunksize=100_000):
        table = pyarrow.Table.from_pandas(chunk, schema=writer and writer.schema)
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    writer.close()
else:
    extract(QuerySource("bench", query), OedTable.LOCATION, Path(file), with_totals=kind.endswith("totals"))
seconds = time.perf_counter() - started
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak_mb": int(peak.split()[1]) / 1024, "rows": pq.read_metadata(file).num_rows}))
"""


def run(options: Options) -> list[Target]:
    """Measure the extraction, print the table and return the targets."""
    rows = QUICK_ROWS if options.quick else ROWS
    with throw_away_database() as url:
        return compare(url, rows, rounds=2 if options.quick else 3)


def compare(url: sa.URL, rows: int, rounds: int) -> list[Target]:
    """Measure all contestants on a table of ``rows`` rows, which is made for it."""
    enough_memory = psutil.virtual_memory().available > rows * PANDAS_BYTES_PER_ROW
    pandas = PANDAS if enough_memory else CHUNKS
    with _location_table(url, rows), tempfile.TemporaryDirectory() as folder:
        turns = [
            {kind: _run_contestant(kind, url, rows, Path(folder)) for kind in (EXTRACT, pandas, TOTALS)}
            for _ in range(rounds)
        ]

    def median(kind: str, figure: str) -> float:
        return statistics.median(turn[kind][figure] for turn in turns)

    def ratio(kind: str) -> float:
        return statistics.median(turn[pandas]["seconds"] / turn[kind]["seconds"] for turn in turns)

    show_table(
        f"PostgreSQL to Parquet, {rows:,} locations of 27 columns, medians of {rounds} rounds",
        ("", "seconds", "rows/s", "peak MB", "MB written", "times faster than pandas"),
        [
            (
                kind,
                f"{median(kind, 'seconds'):.1f}",
                f"{rows / median(kind, 'seconds'):,.0f}",
                f"{median(kind, 'peak_mb'):,.0f}",
                f"{median(kind, 'written_mb'):,.0f}",
                f"{ratio(kind):.1f}",
            )
            for kind in turns[0]
        ],
    )
    return [
        Target(f"extract of {rows:,} rows: times faster than pandas", ratio(EXTRACT), TIMES_FASTER, at_least=True),
        Target(f"extract of {rows:,} rows: peak memory", median(TOTALS, "peak_mb"), MEMORY_MB, " MB"),
    ]


def _run_contestant(kind: str, url: sa.URL, rows: int, folder: Path) -> dict[str, float]:
    file = folder / "location.parquet"
    address = url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    figures: dict[str, float] = json.loads(
        subprocess.check_output(
            [sys.executable, "-c", _CONTESTANT, kind, address, str(file)],
            env={**os.environ, "IRP_SOURCE_BENCH_URL": address},
        )
    )
    if figures["rows"] != rows:
        raise AssertionError(f"{kind} wrote {figures['rows']:,.0f} of {rows:,} rows")
    figures["written_mb"] = file.stat().st_size / 2**20
    file.unlink()
    return figures


@contextmanager
def _location_table(url: sa.URL, rows: int) -> Iterator[None]:
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(_TABLE.format(rows=rows))
        try:
            cursor.execute("VACUUM ANALYZE bench_location")
            yield
        finally:
            cursor.execute("DROP TABLE bench_location")


def main() -> int:
    """Measure what the command line asks for and return the exit status: 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"locations in the table (default {ROWS:,})")
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure (default 3)")
    parser.add_argument("--url", help="the database to measure on; a table bench_location is made in it, and dropped")
    arguments = parser.parse_args()
    if arguments.url:
        targets = compare(sa.make_url(arguments.url), arguments.rows, arguments.rounds)
    else:
        with throw_away_database() as url:
            targets = compare(url, arguments.rows, arguments.rounds)
    show_targets(targets)
    return 0 if all(target.met for target in targets) else 1


if __name__ == "__main__":
    raise SystemExit(main())
