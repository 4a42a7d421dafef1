"""Publishing and fetching files on an S3 server, beside what s3fs itself reaches.

The server is moto's, over HTTP on this machine: both sides wait for the same server. Fetching includes the check of the
hash; what s3fs fetches is not checked.
"""

import hashlib
import os
import random
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from irp_pipeline import settings, store
from irp_pipeline_tests.benchmarks.harness import Options, Target, show_table
from irp_pipeline_tests.support.s3_server import s3_server_itself

SHARE_OF_S3FS: Final = 0.8

_LARGE_BYTES: Final = 64_000_000
_SMALL_BYTES: Final = 50_000
_SMALL_FILES: Final = 100
_ROUNDS: Final = 7
_FOLDER: Final = "public/Q1-2024/results"

_Files = list[tuple[Path, str]]


def run(options: Options) -> list[Target]:
    """Measure a large file, and many small ones."""
    scale = 10 if options.quick else 1
    rounds = 2 if options.quick else _ROUNDS
    with (
        tempfile.TemporaryDirectory(prefix="irp-bench-") as folder,
        s3_server_itself() as port,
        pytest.MonkeyPatch.context() as env,
    ):
        for name, value in {
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "IRP_HOME": f"{folder}/home",
        }.items():
            env.setenv(name, value)
        settings.make_irp_home()
        large = _made(Path(folder), 1, _LARGE_BYTES // scale)
        small = _made(Path(folder), _SMALL_FILES // scale, _SMALL_BYTES)
        return [
            *_compare("a large file", large, rounds, env),
            *_compare("many small files", small, rounds, env),
        ]


def _compare(what: str, files: _Files, rounds: int, env: pytest.MonkeyPatch) -> list[Target]:
    import s3fs

    s3 = s3fs.S3FileSystem(use_listings_cache=False)
    total = sum(path.stat().st_size for path, _ in files) / 1e6
    seconds: dict[str, list[float]] = {name: [] for name in ("put", "publish", "get", "fetch")}
    for _ in range(rounds):
        bucket = f"bench-{uuid.uuid4().hex}"
        s3.mkdir(bucket, region_name="eu-west-1")
        env.setenv("IRP_FILES_URL", f"s3://{bucket}/irp")
        places = [f"{bucket}/s3fs/{path.name}" for path, _ in files]
        keys = [(f"{_FOLDER}/{path.name}", sha256) for path, sha256 in files]
        copies = files[0][0].parent / "copies"
        copies.mkdir()
        names = [str(copies / path.name) for path, _ in files]

        def put(places: list[str] = places) -> None:
            s3.put([str(path) for path, _ in files], places)

        def publish(keys: list[tuple[str, str]] = keys) -> None:
            store.publish_all((path, key, sha256) for (path, sha256), (key, _) in zip(files, keys, strict=True))

        def get(places: list[str] = places, names: list[str] = names) -> None:
            s3.get(places, names)

        def fetch(keys: list[tuple[str, str]] = keys) -> None:
            store.fetch_all(keys)

        pairs: list[dict[str, Callable[[], None]]] = [
            {"put": put, "publish": publish},
            {"get": get, "fetch": fetch},
        ]
        for pair in pairs:
            for name in random.sample(list(pair), 2):
                seconds[name].append(_seconds(pair[name]))
        shutil.rmtree(copies)
        shutil.rmtree(settings.cycles_root())
        s3.rm(bucket, recursive=True)
    medians = {name: statistics.median(took) for name, took in seconds.items()}
    show_table(
        f"{what}: {len(files)} with {total:,.0f} MB",
        ("", "median", "MB a second"),
        [(name, f"{median:.3f} s", f"{total / median:,.0f}") for name, median in medians.items()],
    )
    return [
        Target(
            f"{ours}, {what}: share of the speed of s3fs",
            statistics.median(theirs / mine for theirs, mine in zip(seconds[plain], seconds[ours], strict=True)),
            SHARE_OF_S3FS,
            at_least=True,
        )
        for plain, ours in (("put", "publish"), ("get", "fetch"))
    ]


def _seconds(action: Callable[[], None]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _made(folder: Path, count: int, size: int) -> _Files:
    target = folder / f"of {size}"
    target.mkdir()
    files = []
    for number in range(count):
        content = os.urandom(size)
        path = target / f"{number}.parquet"
        path.write_bytes(content)
        files.append((path, hashlib.sha256(content).hexdigest()))
    return files
