"""Planning: what must be run between two cycles, for each analysis that both have.

A *state* is an analysis of which some factors are as in the later cycle, and the others as in the earlier one. Two
states with the same parameters and the same exposure are one, and are run once: what does not differ has a part of
exactly zero.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irp_pipeline import engines
from irp_pipeline.cycle_files import ATTRIBUTION as OF_ATTRIBUTION
from irp_pipeline.cycle_files import SCRATCH
from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.other_terms import Matching, match_locations, with_terms_of
from irp_pipeline.exposure.tables import Tables
from irp_pipeline.files import make_folder
from irp_pipeline.hashes import value_hash
from irp_pipeline.helpers.attribution.errors import AttributionError
from irp_pipeline.helpers.attribution.factors import Factor, parameters_at
from irp_pipeline.helpers.job_request import ATTRIBUTION
from irp_pipeline.helpers.reruns import (
    Place,
    RecordedRun,
    RerunError,
    job_name,
    kept_portfolio,
    named_files_of,
    recorded_runs,
)
from irp_pipeline.helpers.result import JobResult
from irp_pipeline.helpers.result.finished import require_batch
from irp_pipeline.vocabulary import Perspective


@dataclass(frozen=True, kw_only=True)
class PlannedAnalysis:
    """An analysis whose change is attributed.

    Attributes:
        name: the analysis.
        earlier: as the earlier cycle recorded it.
        later: as the later cycle recorded it.
        states: the names of the jobs of its states, from the earlier cycle's run of today to the later cycle's.
        matching: which locations both portfolios have in common.
    """

    name: str
    earlier: RecordedRun
    later: RecordedRun
    states: tuple[str, ...]
    matching: Matching


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run.

    Attributes:
        earlier_batch_id: the batch of the earlier cycle.
        later_batch_id: that of the later one.
        earlier_name: the earlier cycle.
        order: the factors between the two runs of today.
        analyses: the analyses by name.
        jobs: the parameters of all jobs.
        refused: why analyses that both cycles have are not attributed, by name.
    """

    earlier_batch_id: int
    later_batch_id: int
    earlier_name: str
    order: tuple[Factor, ...]
    analyses: Mapping[str, PlannedAnalysis]
    jobs: tuple[Mapping[str, Any], ...] = field(repr=False)
    refused: Mapping[str, str]


def plan(
    earlier_batch_id: int, later_batch_id: int, order: tuple[Factor, ...], only: Sequence[str] | None = None
) -> Plan:
    """Plan the states between two batches, and keep their files with the later cycle.

    Args:
        earlier_batch_id: the batch of the earlier cycle.
        later_batch_id: that of the later one.
        order: the factors in the order in which they change.
        only: only these analyses; None means all that both have.

    Raises:
        AttributionError: no analysis is in both.
        ResultError: the result of a job cannot be read.
        StoreError: the store of files cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    batches = [require_batch(batch_id) for batch_id in (earlier_batch_id, later_batch_id)]
    earlier, later = (recorded_runs(batch) for batch in batches)
    names = [name for name in later if name in earlier and (only is None or name in only)]
    if not names:
        raise AttributionError(
            f"No analysis of {batches[1].cycle_name} has the name of one of {batches[0].cycle_name}"
            if only is None
            else f"{batches[0].cycle_name} and {batches[1].cycle_name} do not both have: {', '.join(only)}"
        )
    analyses: dict[str, PlannedAnalysis] = {}
    jobs: list[Mapping[str, Any]] = []
    refused: dict[str, str] = {}
    for name in names:
        try:
            found, of_states = _planned(earlier[name], later[name], order)
        except (RerunError, ExposureError) as error:
            refused[name] = str(error)
        else:
            analyses[name] = found
            jobs += of_states
    return Plan(
        earlier_batch_id=earlier_batch_id,
        later_batch_id=later_batch_id,
        earlier_name=batches[0].cycle_name,
        order=order,
        analyses=analyses,
        jobs=tuple(jobs),
        refused=refused,
    )


def _planned(
    earlier: RecordedRun, later: RecordedRun, order: tuple[Factor, ...]
) -> tuple[PlannedAnalysis, list[Mapping[str, Any]]]:
    name, place = later.job.name, Place(later.cycle_folder, OF_ATTRIBUTION)
    engine, engine_before = (str(run.job.analysis.get("engine")) for run in (later, earlier))
    if engine != engine_before:
        raise AttributionError(
            f"{earlier.cycle_name} ran it with the engine {engine_before}, {later.cycle_name} with {engine}: nothing "
            "lies between two engines"
        )
    if earlier.job.currency != later.job.currency:
        raise AttributionError(
            f"its losses are in {earlier.job.currency} in {earlier.cycle_name} and in {later.job.currency} in "
            f"{later.cycle_name}"
        )
    declaration = engines.declared(later.job.analysis)
    if declaration is None:
        raise AttributionError(f"there is no engine {engine!r} on this machine")
    perspectives = _common(earlier.job, later.job)
    before, after = (
        named_files_of(run, declaration, place) | {"perspectives": perspectives} for run in (earlier, later)
    )
    make_folder(later.cycle_folder / SCRATCH)
    states: dict[str, str] = {}
    path: list[str] = []
    jobs: list[Mapping[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=later.cycle_folder / SCRATCH, prefix="attribution-") as scratch:
        exposures = _Exposures(earlier, later, place, Path(scratch))
        for number in range(len(order) + 1):
            changed = order[:number]
            inputs = exposures.at(changed)
            parameters = _without_segments(parameters_at(declaration, before, after, changed))
            key = value_hash([parameters, {table: file["sha256"] for table, file in inputs.items()}])
            if key not in states:
                label = changed[-1] if changed else Factor.ENGINE
                states[key] = job_name(name, label)
                jobs.append(
                    parameters
                    | place.parameter(inputs)
                    | {
                        "name": states[key],
                        ATTRIBUTION: {
                            "analysis": name,
                            "earlier cycle": earlier.cycle_name,
                            "earlier job": earlier.job.job_id,
                            "later job": later.job.job_id,
                            "as in later cycle": list(changed),
                        },
                    }
                )
            path.append(states[key])
    found = PlannedAnalysis(name=name, earlier=earlier, later=later, states=tuple(path), matching=exposures.matching)
    return found, jobs


def _common(earlier: JobResult, later: JobResult) -> list[str]:
    of_both = [{figure.perspective for figure in job.figures} for job in (earlier, later)]
    return [perspective.value for perspective in Perspective if all(perspective in of for of in of_both)]


def _without_segments(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: () if name == "segments" else value for name, value in parameters.items()}


class _Exposures:
    """The portfolios of the states of one analysis: each is put together and kept once."""

    def __init__(self, earlier: RecordedRun, later: RecordedRun, place: Place, scratch: Path) -> None:
        self._earlier, self._later = earlier.tables(), later.tables()
        self._place, self._scratch = place, scratch
        self.matching = match_locations(self._earlier, self._later)
        self._kept: dict[tuple[bool, bool], dict[str, dict[str, str]]] = {}

    def at(self, changed: Sequence[Factor]) -> dict[str, dict[str, str]]:
        """Return the inputs of a state in which these factors are as in the later cycle."""
        key = Factor.EXPOSURE in changed, Factor.TERMS in changed
        if key not in self._kept:
            self._kept[key] = kept_portfolio(self._tables(*key), self._place)
        return self._kept[key]

    def _tables(self, later_exposure: bool, later_terms: bool) -> Tables:
        if later_exposure == later_terms:
            return self._later if later_exposure else self._earlier
        folder = self._scratch / ("later" if later_exposure else "earlier")
        if later_exposure:
            return with_terms_of(self._later, self._earlier, self.matching.reverse, folder)
        return with_terms_of(self._earlier, self._later, self.matching, folder)
