"""Running analyses again with other draws: their batch, made once and followed to its end, and the spread of figures.

Everything may be repeated: runs that were interrupted go on where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from irp_pipeline.helpers.comparison.choosing import choose
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.helpers.cycle_lookup import require_open_cycle
from irp_pipeline.helpers.repeats.errors import RepeatError
from irp_pipeline.helpers.repeats.planning import plan
from irp_pipeline.helpers.repeats.spread import spread_of
from irp_pipeline.helpers.reruns import run_beside
from irp_pipeline.helpers.result import RepeatedFigure, save_repeated

USUAL_RUNS: Final = 9
"""How often each analysis is run again, unless something else is asked for: ten runs with the recorded one."""
FEWEST_RUNS: Final = 2


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """The outcome of repeated runs.

    Attributes:
        batch_id: the batch that ran them.
        figures: how far each figure of an analysis or group spreads.
        left_out: analyses and groups of which nothing is known, with the reason.
    """

    batch_id: int
    figures: tuple[RepeatedFigure, ...] = field(repr=False)
    left_out: Mapping[str, str]


def repeat(
    cycle_name: str,
    *,
    runs: int = USUAL_RUNS,
    analyses: Sequence[str] | None = None,
    anew: bool = False,
    tell: Callable[[str], None] = lambda progress: None,
) -> Repeated:
    """Run the analyses of a cycle again with other draws, and record how far their figures spread.

    The runs are a batch of their own, and are waited for. A second call with the same analyses runs nothing again.

    Args:
        cycle_name: the cycle, which must be open and have figures.
        runs: how often each analysis is run again, at least twice.
        analyses: only these; None means all.
        anew: run everything again, such as after a new version of the engine was installed.
        tell: called with the progress, in words.

    Raises:
        RepeatError: nothing can be run again; the message says why.
        RerunError: a job failed.
        ComparisonError: the cycle has no figures.
        CycleError: there is no such cycle, or it takes no more work.
        BatchError: other runs of the cycle with other draws are under way.
        EngineError: an engine cannot be reached.
        StoreError: the store of files cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    if runs < FEWEST_RUNS:
        raise RepeatError(f"Other draws of {runs} runs say little: ask for at least {FEWEST_RUNS}")
    chosen = choose(require_open_cycle(cycle_name))
    tell("preparing portfolios with other draws")
    planned = plan(chosen.batch_id, runs, analyses)
    if not planned.jobs:
        reasons = "\n".join(f"{name}: {reason}" for name, reason in planned.refused.items())
        raise RepeatError(f"Nothing can be run again with other draws.\n{reasons}")
    batch_id = run_beside(chosen.batch_id, BatchType.REPEATS, planned.jobs, recompute=anew, anew=anew, tell=tell)
    figures, left_out = spread_of(planned, batch_id, tell)
    save_repeated(batch_id, figures)
    return Repeated(batch_id=batch_id, figures=tuple(figures), left_out=left_out)
