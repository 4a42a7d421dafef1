"""The losses of several analyses, added up year by year."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from irp_pipeline.losses.figures import Figure, declared_figures, figures
from irp_pipeline.losses.metrics import SampledYears
from irp_pipeline.losses.periods import LossError, SegmentValues, period_losses, segment_period_losses, together
from irp_pipeline.vocabulary import Perspective


@dataclass(frozen=True)
class Member:
    """An analysis that is part of a group.

    Attributes:
        name: its name.
        period_losses: its ``plt_sample`` file for each perspective.
        periods: number of simulated years of its model.
        samples: number of samples.
        currency: the currency of its losses.
        occurrence_hash: equal for analyses with the same occurrence set: the same events in the same years.
        segments: by the OED fields of a combination and by perspective, the ``plt_sample`` file of its segments, and
            the values of each by its ``SummaryId``.
    """

    name: str
    period_losses: Mapping[Perspective, Path]
    periods: int
    samples: int
    currency: str
    occurrence_hash: str
    segments: Mapping[tuple[str, ...], Mapping[Perspective, tuple[Path, Mapping[int, SegmentValues]]]] = field(
        default_factory=dict
    )


def group(
    name: str,
    members: Iterable[Member],
    *,
    return_periods: Collection[float],
    perspectives: Collection[Perspective] | None = None,
    pair_by_number: bool = False,
) -> list[Figure]:
    """Compute the figures of analyses whose losses are added up year by year, sample by sample.

    Within one occurrence set an event is one occurrence, whichever analyses it affects. An analysis that is
    given twice, through groups of groups, counts once.

    Args:
        name: the group's name, for messages.
        members: the analyses.
        return_periods: in years.
        perspectives: the perspectives to compute; None means those that all members have.
        pair_by_number: if the occurrence sets differ, add year 1 to year 1, year 2 to year 2 and so on, which assumes
            that the models are independent of each other.

    Returns:
        As :func:`~irp_pipeline.losses.figures.figures`, perspective by perspective, each with the declared metrics;
        after them, those of the segments that all members have.

    Raises:
        LossError: the members cannot be added up, or the period losses of one are missing; the message names the
            analyses.
    """
    unique = _once_each(name, members)
    chosen = _common_perspectives(name, unique, perspectives)
    _check_alike(name, unique, pair_by_number)
    found: list[Figure] = []
    periods, samples = unique[0].periods, unique[0].samples
    for perspective in chosen:
        by_set: defaultdict[str, list[Path]] = defaultdict(list)
        for member in unique:
            path = member.period_losses[perspective]
            if not path.is_file():
                raise _refusal(name, f"the period losses {perspective} of {member.name} are missing: {path}")
            by_set[member.occurrence_hash].append(path)
        years = [period_losses(*paths, periods=periods) for paths in by_set.values()]
        added = years[0] if len(years) == 1 else together(years)
        found += figures(
            added, perspective=perspective, periods=periods, samples=samples, return_periods=return_periods
        )
        try:
            found += declared_figures(perspective, SampledYears(added, periods, samples), return_periods)
        except LossError as error:
            raise LossError(f"The declared metrics of the group {name}, {perspective}: {error}") from error
    for by in unique[0].segments:
        if all(by in member.segments for member in unique):
            for perspective in chosen:
                found += _of_segments(by, perspective, unique, return_periods)
    return found


def _of_segments(
    by: tuple[str, ...], perspective: Perspective, members: Sequence[Member], return_periods: Collection[float]
) -> Iterator[Figure]:
    """Compute the figures of the segments by one combination of fields, as those of the whole."""
    by_set: defaultdict[str, list[tuple[Path, Mapping[int, SegmentValues]]]] = defaultdict(list)
    for member in members:
        if perspective not in member.segments[by]:
            return
        by_set[member.occurrence_hash].append(member.segments[by][perspective])
    periods, samples = members[0].periods, members[0].samples
    of_sets = [segment_period_losses(sources, periods) for sources in by_set.values()]
    for values in sorted({values for of_set in of_sets for values in of_set}):
        years = [of_set[values] for of_set in of_sets if values in of_set]
        added = years[0] if len(years) == 1 else together(years)
        of_segment = figures(
            added, perspective=perspective, periods=periods, samples=samples, return_periods=return_periods
        )
        yield from (figure.of_segment(by, values) for figure in of_segment)


def _once_each(name: str, members: Iterable[Member]) -> list[Member]:
    by_name: dict[str, Member] = {}
    for member in members:
        if by_name.setdefault(member.name, member) != member:
            raise _refusal(name, f"there are two different analyses called {member.name}")
    if not by_name:
        raise _refusal(name, "it has no analyses")
    return list(by_name.values())


def _common_perspectives(
    name: str, members: Sequence[Member], asked: Collection[Perspective] | None
) -> list[Perspective]:
    without = [member.name for member in members if not member.period_losses]
    if without:
        raise _refusal(name, f"there are no period losses of {', '.join(without)}")
    if asked is None:
        common = [item for item in Perspective if all(item in member.period_losses for member in members)]
        if not common:
            listed = _by_value(members, {member.name: " ".join(sorted(member.period_losses)) for member in members})
            raise _refusal(name, f"its analyses have no perspective in common ({listed})")
        return common
    for perspective in asked:
        lacking = [member.name for member in members if perspective not in member.period_losses]
        if lacking:
            raise _refusal(name, f"there are no period losses {perspective} of {', '.join(lacking)}")
    return Perspective.among(asked)


def _check_alike(name: str, members: Sequence[Member], pair_by_number: bool) -> None:
    currencies = {member.name: member.currency for member in members}
    if len(set(currencies.values())) > 1:
        raise _refusal(name, f"its analyses are in different currencies ({_by_value(members, currencies)})")
    periods = {member.name: f"{member.periods:,}" for member in members}
    if len(set(periods.values())) > 1:
        raise _refusal(name, f"its analyses have different numbers of years ({_by_value(members, periods)})")
    samples = {member.name: f"{member.samples:,}" for member in members}
    if len(set(samples.values())) > 1:
        raise _refusal(name, f"its analyses have different numbers of samples ({_by_value(members, samples)})")
    sets = {member.name: member.occurrence_hash[:12] for member in members}
    if len({member.occurrence_hash for member in members}) > 1 and not pair_by_number:
        raise _refusal(
            name,
            f"its analyses have different occurrence sets ({_by_value(members, sets)}), so year 1 of one has "
            "nothing to do with year 1 of another. If the models are independent of each other, write by_number into "
            "the column period_pairing of the sheet Groupings",
        )


def _by_value(members: Sequence[Member], values: Mapping[str, str]) -> str:
    """List the analyses by their values: ``3,000: a, b; 5,000: c``."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for member in members:
        names[values[member.name]].append(member.name)
    return "; ".join(f"{value}: {', '.join(listed)}" for value, listed in names.items())


def _refusal(name: str, reason: str) -> LossError:
    return LossError(f"The losses of the group {name} cannot be added up: {reason}")
