"""Whether the place of the cycles' files answers, for probes: they must not wait as long as work does."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from irp_pipeline.errors import IrpError
from irp_pipeline.store.finding import place_of_cycles
from irp_pipeline.store.identity import IDENTITY


@dataclass(frozen=True)
class Reach:
    """Whether the place of the cycles' files answers.

    Attributes:
        address: of the place, without credentials; empty if it cannot be said.
        problem: what is wrong, and what to do; None if it answered.
    """

    address: str
    problem: str | None


def reach(seconds: float) -> Reach:
    """Ask the place of the cycles' files for one file; nothing is written.

    Args:
        seconds: how long to wait for the answer.
    """
    try:
        place = place_of_cycles()
    except IrpError as error:
        return Reach("", str(error))
    problem: str | None = (
        f"The store of files {place.address} did not answer within {seconds:.0f} s. Check that it can be reached; "
        "IRP_FILES_URL names it"
    )

    def ask() -> None:
        nonlocal problem
        try:
            place.find(IDENTITY)
            problem = None
        except IrpError as error:
            problem = str(error)

    thread = threading.Thread(target=ask, name="irp-reach", daemon=True)
    thread.start()
    thread.join(seconds)
    return Reach(place.address, problem)
