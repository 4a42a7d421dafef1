"""The exposure of a cycle at a glance, as its step recorded it, and that of the cycle before.

Here: finding the files of a profile. Not here: computing it (:mod:`irp_pipeline.exposure.profile`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from irp_pipeline.cycle_files import EXPOSURE
from irp_pipeline.exposure.profile.records import ExposureProfile
from irp_pipeline.helpers.artefact import list_artefacts, read_artefacts
from irp_pipeline.helpers.cycle import Cycle, find_cycle
from irp_pipeline.helpers.cycle_before import cycle_before, stated_date
from irp_pipeline.postgres.running import fetch_all


def find_profile(cycle: Cycle) -> ExposureProfile | None:
    """Return the profile of a cycle's exposure; None if its step has not run.

    Args:
        cycle: the cycle, in the schema of :mod:`irp_pipeline.helpers.db_context`.

    Raises:
        ArtefactError: a file of it is missing on this machine or differs.
        ExposureError: a file of it cannot be read.
        StoreError: the store cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    from irp_pipeline.exposure.profile.tables import read_profile

    found = list_artefacts(cycle.id, EXPOSURE)
    if not found:
        return None
    names = (key.removeprefix(f"{EXPOSURE}/") for key in found)
    return read_profile(dict(zip(names, read_artefacts(cycle.cycle_name, found.values()), strict=True)))


@dataclass(frozen=True)
class _Profiled:
    """A cycle that has a profile."""

    cycle_id: int
    cycle_name: str
    exposure_date: dt.date | None


def profiled_cycle_before(cycle: Cycle) -> Cycle | None:
    """Return the cycle before another one, of those that have a profile; None if there is none.

    :mod:`irp_pipeline.helpers.cycle_before` has the rule.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    rows = fetch_all(
        """
        SELECT c.id, c.cycle_name, (c.created_ts, c.id) < (self.created_ts, self.id) AS older,
               (SELECT f.configuration_data #>> '{metadata,exposure_date}' FROM irp_configuration f
                 WHERE f.cycle_id = c.id ORDER BY f.status = 'ACTIVE' DESC, f.id DESC LIMIT 1) AS exposure_date
          FROM irp_cycle c, irp_cycle self
         WHERE self.id = %s
           AND (c.id = self.id OR EXISTS (
                SELECT FROM irp_stage sg JOIN irp_step st ON st.stage_id = sg.id
                  JOIN irp_step_run r ON r.step_id = st.id AND r.status = 'COMPLETED'
                 WHERE sg.cycle_id = c.id AND st.step_key = 'process.profile_exposure'))
         ORDER BY c.created_ts, c.id
        """,
        (cycle.id,),
    )
    found = {row["id"]: _Profiled(row["id"], row["cycle_name"], stated_date(row["exposure_date"])) for row in rows}
    own = found.pop(cycle.id)
    older = [found[row["id"]] for row in reversed(rows) if row["older"]]
    younger = [one for one in found.values() if one not in older]
    before = cycle_before(own.cycle_name, own.exposure_date, older, younger)
    return None if before is None else find_cycle(before[0].cycle_name)
