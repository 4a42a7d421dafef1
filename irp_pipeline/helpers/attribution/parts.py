"""Parts: what each factor adds to the losses from one cycle to the next, and how sure that is.

Each part is a difference of two states that follow each other, so that the parts add up to the whole change, whatever
the order. Sampling is no part: it makes each of them more or less certain.

Here: computing the parts from finished jobs. Not here: what is run (:mod:`irp_pipeline.helpers.attribution.planning`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from irp_pipeline.helpers.attribution.errors import AttributionError
from irp_pipeline.helpers.attribution.factors import Factor
from irp_pipeline.helpers.attribution.planning import Plan, PlannedAnalysis
from irp_pipeline.helpers.comparison.differences import differences, in_words
from irp_pipeline.helpers.comparison.sides import Compared, Source
from irp_pipeline.helpers.job_request import ATTRIBUTION, FILES
from irp_pipeline.helpers.reruns import RecordedRun, runs_of
from irp_pipeline.helpers.result import RecordedFigure, get_results, recorded_figures
from irp_pipeline.helpers.result.curves import NO_PERIOD_LOSSES
from irp_pipeline.helpers.result.finished import require_batch
from irp_pipeline.helpers.result.groups import member_of
from irp_pipeline.helpers.result.uncertainty import NO_SAMPLES
from irp_pipeline.losses import Figure, LossError, SampledYears, group
from irp_pipeline.losses.sampling_error import SamplePoint, sampling_errors, without_each_sample
from irp_pipeline.vocabulary import CURVES, Metric, Perspective

if TYPE_CHECKING:
    from irp_pipeline.losses.sampling_error import LeftOut

_METRICS: Final = (Metric.AAL, *CURVES, Metric.LOSS)
_DRAWN_ANEW: Final = "renumbered locations draw anew"
_OTHER_TERMS: Final = "other terms of accounts, locations or reinsurance"


class Point(NamedTuple):
    """A figure of an analysis or group."""

    perspective: Perspective
    metric: str
    return_period: float | None
    loss_factor: float | None


def point_of(figure: Figure) -> Point:
    """Return which figure of an analysis or group it is."""
    return Point(figure.perspective, figure.metric, figure.return_period, figure.loss_factor)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What one factor adds to a figure.

    Attributes:
        analysis_name: the analysis or group.
        is_group: whether it is a group.
        point: which figure.
        currency: of the amounts.
        position: 0 for the first factor, and so on.
        factor: the factor.
        before: the figure before it changed, an amount.
        after: the figure after that.
        sampling_error: one standard error of the part, an amount; it is no part of the sum.
        sampling_error_unknown: why it is not known.
        remark: what changed, in words; empty if nothing did.
    """

    analysis_name: str
    is_group: bool
    point: Point
    currency: str
    position: int
    factor: Factor
    before: float
    after: float
    sampling_error: float | None
    sampling_error_unknown: str | None
    remark: str

    @property
    def change(self) -> float:
        """The part: what the factor adds."""
        return self.after - self.before


@dataclass(frozen=True)
class _State:
    """An analysis or group in one state: its jobs, and its figures."""

    runs: tuple[RecordedRun, ...]
    figures: Mapping[Point, float]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the jobs that did the work."""
        return tuple(run.job.job_key for run in self.runs)


def parts_of(plan: Plan, batch_id: int) -> tuple[list[Part], dict[str, str]]:
    """Compute the parts of all analyses of a plan, and of the groups whose members are all among them.

    Args:
        plan: what was run.
        batch_id: the batch that ran it, COMPLETED.

    Returns:
        The parts; and why analyses or groups that both cycles have are left out, by name.

    Raises:
        RerunError: the batch has not run all states.
        ResultError: the result of a job cannot be read or has changed.
        DatabaseError: the database refuses or is away.
    """
    from irp_pipeline.workbook import PeriodPairing, Workbook

    runs = runs_of(batch_id, (name for of in plan.analyses.values() for name in of.states))
    recorded = [_recorded(batch_id) for batch_id in (plan.earlier_batch_id, plan.later_batch_id)]
    paths = {name: (of.earlier, *(runs[state] for state in of.states), of.later) for name, of in plan.analyses.items()}
    parts: list[Part] = []
    left_out = dict(plan.refused)
    for name, path in paths.items():
        states = [_State((run,), _points(run.job.figures)) for run in path]
        parts += _parts(name, (plan.analyses[name],), plan.order, _with_recorded(states, recorded, name))
    workbook = Workbook.from_json(require_batch(plan.later_batch_id).configuration_data)
    for grouping in workbook.groupings_in_order():
        members = list(dict.fromkeys(analysis.name for analysis in workbook.analyses_in(grouping.name)))
        try:
            _check_group(grouping.name, members, recorded, plan)
            by_number = grouping.period_pairing is PeriodPairing.BY_NUMBER
            states = [
                _state_of_group(grouping.name, of_state, by_number)
                for of_state in zip(*(paths[member] for member in members), strict=True)
            ]
        except (AttributionError, LossError) as error:
            left_out[grouping.name] = str(error)
            continue
        analyses = tuple(plan.analyses[member] for member in members)
        states = _with_recorded(states, recorded, grouping.name)
        parts += _parts(grouping.name, analyses, plan.order, states, is_group=True)
    return parts, left_out


def _recorded(batch_id: int) -> dict[str, list[RecordedFigure]]:
    found: dict[str, list[RecordedFigure]] = {}
    for figure in recorded_figures(get_results(batch_id)):
        found.setdefault(figure.analysis_name, []).append(figure)
    return found


def _points(figures: Iterable[Figure]) -> dict[Point, float]:
    return {point_of(of): of.loss for of in figures if of.is_whole and of.metric in _METRICS}


def _with_recorded(
    states: Sequence[_State], recorded: Sequence[Mapping[str, Sequence[RecordedFigure]]], name: str
) -> list[_State]:
    """Let the first and the last state have the figures that the cycles saved."""
    first, last = (
        _State(state.runs, _points(found.figure for found in of.get(name, ())))
        for state, of in zip((states[0], states[-1]), recorded, strict=True)
    )
    return [first, *states[1:-1], last]


def _check_group(
    name: str, members: Sequence[str], recorded: Sequence[Mapping[str, Sequence[RecordedFigure]]], plan: Plan
) -> None:
    for of_side, cycle in zip(recorded, (plan.earlier_name, "the later cycle"), strict=True):
        if name not in of_side:
            raise AttributionError(f"{cycle} has no figures of it")
    if lacking := [member for member in members if member not in plan.analyses]:
        raise AttributionError(f"of its members, these are not attributed: {', '.join(lacking)}")
    jobs = {plan.analyses[member].earlier.job.job_id for member in members}
    if jobs != {job_id for found in recorded[0][name] for job_id in found.job_ids}:
        raise AttributionError(f"it had other members in {plan.earlier_name}")


def _state_of_group(name: str, runs: tuple[RecordedRun, ...], by_number: bool) -> _State:
    years = {period for run in runs for period in run.job.analysis.get("return_periods") or ()}
    members = [member_of(name, run.job) for run in runs]
    return _State(runs, _points(group(name, members, return_periods=sorted(years), pair_by_number=by_number)))


def _parts(
    name: str,
    analyses: Sequence[PlannedAnalysis],
    order: Sequence[Factor],
    states: Sequence[_State],
    *,
    is_group: bool = False,
) -> Iterator[Part]:
    factors = (Factor.ENGINE, *order, Factor.ENGINE_OF_LATER)
    points = [point for point in states[0].figures if all(point in state.figures for state in states)]
    errors = _Errors(name, {point.return_period for point in points if point.return_period is not None})
    for position, factor in enumerate(factors):
        before, after = states[position], states[position + 1]
        remark = _remark(factor, analyses, before, after)
        for point in points:
            error, unknown = errors.of(before, after, point)
            yield Part(
                analysis_name=name,
                is_group=is_group,
                point=point,
                currency=before.runs[0].job.currency,
                position=position,
                factor=factor,
                before=before.figures[point],
                after=after.figures[point],
                sampling_error=error,
                sampling_error_unknown=unknown,
                remark=remark,
            )


class _Errors:
    """The errors of sampling of the parts of an analysis or group. The samples of each state are read once."""

    def __init__(self, name: str, return_periods: Iterable[float]) -> None:
        self._name = name
        self._return_periods = sorted(return_periods)
        self._samples: dict[tuple[str, ...], Mapping[Perspective, LeftOut] | str] = {}
        self._errors: dict[tuple[object, ...], Mapping[SamplePoint, float]] = {}

    def of(self, before: _State, after: _State, point: Point) -> tuple[float | None, str | None]:
        """Return the standard error of a part, an amount; or why it is not known."""
        if before.keys == after.keys and before.figures == after.figures:
            return 0.0, None
        if point.metric == Metric.LOSS:
            return None, NO_SAMPLES
        sides = []
        for state in (before, after):
            if state.keys not in self._samples:
                self._samples[state.keys] = self._read(state)
            found = self._samples[state.keys]
            if isinstance(found, str):
                return None, found
            sides.append(found.get(point.perspective, {}))
        place = (before.keys, after.keys, point.perspective)
        if place not in self._errors:
            self._errors[place] = sampling_errors(*sides)
        error = self._errors[place].get((point.metric, point.return_period))
        return error, None if error is not None else NO_SAMPLES

    def _read(self, state: _State) -> Mapping[Perspective, LeftOut] | str:
        """Return the figures of a state without each sample; or why there are none."""
        if any(run.job.provenance.get("losses_by") == "means" for run in state.runs):
            return NO_SAMPLES
        found: dict[Perspective, LeftOut] = {}

        def keep(perspective: Perspective, years: SampledYears) -> None:
            found[perspective] = without_each_sample(years, self._return_periods)

        try:
            members = [member_of(self._name, run.job) for run in state.runs]
            group(self._name, members, return_periods=(), pair_by_number=True, keep=keep)
        except LossError:  # figures of a single year, or of an analysis whose period losses were not asked for
            return NO_PERIOD_LOSSES
        return found


def _remark(factor: Factor, analyses: Sequence[PlannedAnalysis], before: _State, after: _State) -> str:
    """Say what changed, of an analysis or of the members of a group."""
    said: dict[str, list[str]] = {}
    for analysis, earlier, later in zip(analyses, before.runs, after.runs, strict=True):
        if earlier.job.job_key != later.job.job_key and (words := _what_changed(factor, analysis, earlier, later)):
            said.setdefault(words, []).append(analysis.name)
    if list(said.values()) == [[analysis.name for analysis in analyses]]:
        return next(iter(said))
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in said.items())


def _what_changed(factor: Factor, analysis: PlannedAnalysis, before: RecordedRun, after: RecordedRun) -> str:
    if factor is Factor.EXPOSURE:
        return f"locations: {analysis.matching}" + (f"; {_DRAWN_ANEW}" if analysis.matching.renumbered else "")
    if factor is Factor.TERMS:
        return _OTHER_TERMS
    one, other = (Compared(name=analysis.name, is_group=False, sources=(_source(run),)) for run in (before, after))
    found = differences(one, other)
    # A hash says nothing to people if something else does.
    plain = [item for item in found if not item.what.startswith("content of")]
    return "; ".join(in_words(plain or found))


def _source(run: RecordedRun) -> Source:
    return Source(
        analysis=run.job.name,
        parameters={name: value for name, value in run.job.analysis.items() if name not in {FILES, ATTRIBUTION}},
        request={name: value for name, value in run.request.items() if name.endswith("_hash")},
        currency=run.job.currency,
        provenance=run.job.provenance,
    )
