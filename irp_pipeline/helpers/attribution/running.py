"""Running an attribution: its batch, made once and followed to its end, and its parts.

Everything may be repeated: an attribution that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from irp_pipeline.helpers.attribution.errors import AttributionError
from irp_pipeline.helpers.attribution.factors import USUAL_ORDER, Factor
from irp_pipeline.helpers.attribution.parts import parts_of
from irp_pipeline.helpers.attribution.planning import plan
from irp_pipeline.helpers.attribution.recording import Attribution, find_attribution, save_parts
from irp_pipeline.helpers.comparison.choosing import Chosen, choose, choose_before
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.helpers.cycle_lookup import require_open_cycle
from irp_pipeline.helpers.reruns import run_beside


@dataclass(frozen=True, kw_only=True)
class Attributed:
    """The outcome of an attribution.

    Attributes:
        earlier: the earlier batch.
        later: the later one.
        chosen: why the earlier cycle was chosen, in words.
        order: the factors, in the order in which they change.
        attribution: the parts.
        left_out: analyses and groups of both cycles that have no parts, with the reason.
    """

    earlier: Chosen
    later: Chosen
    chosen: str
    order: tuple[Factor, ...]
    attribution: Attribution
    left_out: Mapping[str, str]


def attribute(
    cycle_name: str,
    before: str | None = None,
    *,
    order: tuple[Factor, ...] = USUAL_ORDER,
    analyses: Sequence[str] | None = None,
    anew: bool = False,
    tell: Callable[[str], None] = lambda progress: None,
) -> Attributed:
    """Split the change of losses from an earlier cycle to a later one into parts that add up.

    What lies between them is run as a batch of the later cycle, and waited for. A second call with the same cycles and
    order runs nothing again.

    Args:
        cycle_name: the later cycle, which must be open.
        before: the earlier cycle; None means the one before by exposure date.
        order: in which the factors change.
        analyses: only these; None means all that both cycles have.
        anew: run everything again, such as after a new version of the engine was installed.
        tell: called with the progress, in words.

    Raises:
        AttributionError: nothing can be attributed; the message says why.
        RerunError: a job failed.
        ComparisonError: a cycle has no figures, or there is none before it.
        CycleError: there is no such cycle, or it takes no more work.
        BatchError: another attribution of the cycle is under way.
        EngineError: an engine cannot be reached.
        StoreError: the store of files cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    cycle = require_open_cycle(cycle_name)
    later = choose(cycle)
    earlier, chosen = choose_before(later, cycle, before)
    if earlier.cycle_id == later.cycle_id:
        raise AttributionError(f"{before} is the later cycle itself: name an earlier one")
    planned = plan(earlier.batch_id, later.batch_id, order, analyses)
    if not planned.jobs:
        reasons = "\n".join(f"{name}: {reason}" for name, reason in planned.refused.items())
        raise AttributionError(f"Nothing can be attributed.\n{reasons}")
    batch_id = run_beside(later.batch_id, BatchType.ATTRIBUTION, planned.jobs, recompute=True, anew=anew, tell=tell)
    tell("adding up")
    parts, left_out = parts_of(planned, batch_id)
    save_parts(batch_id, earlier.cycle_name, parts)
    found = find_attribution(cycle, earlier.cycle_name)
    if found is None or found.batch_id != batch_id:
        raise AttributionError("Another attribution of the cycle was made meanwhile: see it with the same command")
    return Attributed(earlier=earlier, later=later, chosen=chosen, order=order, attribution=found, left_out=left_out)
