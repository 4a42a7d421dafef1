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
from irp_pipeline.helpers.batch import ensure_batch_of, find_batch, recon_batch, renew_batch, submit_batch
from irp_pipeline.helpers.batch_progress import follow_batch, what_failed
from irp_pipeline.helpers.comparison.choosing import Chosen, choose, choose_before
from irp_pipeline.helpers.constants import BatchStatus, BatchType
from irp_pipeline.helpers.cycle_lookup import require_open_cycle


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
        AttributionError: nothing can be attributed, or a job failed; the message says why.
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
    of_later = find_batch(later.batch_id)
    if of_later is None:
        raise AttributionError(f"The batch {later.batch_id} was removed meanwhile")
    batch_id = ensure_batch_of(
        BatchType.ATTRIBUTION, of_later.configuration_id, of_later.step_id, planned.jobs, anew=anew
    )
    _finish(batch_id, tell)
    tell("adding up")
    parts, left_out = parts_of(planned, batch_id)
    save_parts(batch_id, earlier.cycle_name, parts)
    found = find_attribution(cycle, earlier.cycle_name)
    if found is None or found.batch_id != batch_id:
        raise AttributionError("Another attribution of the cycle was made meanwhile: see it with the same command")
    return Attributed(earlier=earlier, later=later, chosen=chosen, order=order, attribution=found, left_out=left_out)


def _finish(batch_id: int, tell: Callable[[str], None]) -> None:
    """Run what the batch still has to run."""
    batch = find_batch(batch_id)
    if batch is not None and batch.status is BatchStatus.COMPLETED:
        return
    if batch is not None and batch.status not in {BatchStatus.INITIATED, BatchStatus.ACTIVE}:
        renew_batch(batch_id)
    submit_batch(batch_id)
    for progress, is_new in follow_batch(batch_id):
        if is_new:
            tell(progress)
    status = recon_batch(batch_id)
    if status is not BatchStatus.COMPLETED:
        raise AttributionError(
            f"{what_failed(batch_id, status)}\nThe same command submits them again. irp job log ID shows what the "
            "engine printed"
        )
