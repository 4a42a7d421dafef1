"""Machines of a test: namespaces with their own network, process ids and host name, joined by a bridge.

They share the kernel and the file system of this machine, and nothing else that a worker could tell them apart by.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_BRIDGE: Final = "irp-tests"
BRIDGE_ADDRESS: Final = "10.213.7.1"
"""Where the machines reach what a test serves; an address of this machine alone."""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def machines(*names: str) -> Iterator[dict[str, list[str]]]:
    """Make machines for the block. Bridge and names exist once, so other processes of tests wait for theirs.

    Yields:
        What to write before a command to run it there, by the name of the machine, which is also its host name.
    """
    missing = [program for program in ("ip", "unshare") if shutil.which(program) is None]
    why = f"{', '.join(missing)} not installed (apt-get install iproute2 util-linux)" if missing else ""
    if not why and os.getuid() != 0:
        why = "only root makes network namespaces"
    if why and os.environ.get("IRP_TESTS_NEED_MACHINES"):
        pytest.fail(why)
    elif why:
        pytest.skip(why)
    with (Path(tempfile.gettempdir()) / f"{_BRIDGE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _made(names) as prefixes:
            yield prefixes


def _remove_leftovers(names: Sequence[str]) -> None:
    """Remove what a killed process of tests left; under the lock, nobody else's are there."""
    for name in names:
        subprocess.run(["ip", "link", "del", f"irp-{name}"], capture_output=True)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
    subprocess.run(["ip", "link", "del", _BRIDGE], capture_output=True)


@contextmanager
def _made(names: Sequence[str]) -> Iterator[dict[str, list[str]]]:
    made = []
    _remove_leftovers(names)
    try:
        _ip("link", "add", _BRIDGE, "type", "bridge")
        made.append(("link", "del", _BRIDGE))
        _ip("addr", "add", f"{BRIDGE_ADDRESS}/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for number, name in enumerate(names, start=2):
            here = f"irp-{name}"
            _ip("netns", "add", name)
            made.append(("netns", "del", name))
            _ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", here, "master", _BRIDGE, "up")
            _ip("-n", name, "addr", "add", f"10.213.7.{number}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", name, "link", "set", device, "up")
        script = 'hostname "$0" && exec "$@"'
        own = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "/bin/sh", "-c", script]
        yield {name: ["ip", "netns", "exec", name, *own, name] for name in names}
    finally:
        for words in reversed(made):
            _ip(*words)
