"""Chains of batches within a cycle: one begins when the one before is complete.

The first is the batch of the analyses. The types of the others say which comes before
(:attr:`irp_pipeline.helpers.wanted.BatchTypeDeclaration.after`). Nothing is remembered about where a chain stands: that
follows from the batches themselves, so a process that dies at any point leaves nothing to repair.

Here: beginning batches, following them to the end of the chain, and what follows each. Not here: finding the batches
(:mod:`irp_pipeline.helpers.batch_lookup`) and checking their jobs before they are submitted
(:mod:`irp_pipeline.helpers.world_check`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from irp_pipeline.hashes import value_hash
from irp_pipeline.helpers.batch import find_batch, recon_batch, renew_batch, submit_batch
from irp_pipeline.helpers.batch_content import job_contents
from irp_pipeline.helpers.batch_lookup import Batch, chain_of_cycle, may_begin
from irp_pipeline.helpers.batch_of_jobs import BatchError
from irp_pipeline.helpers.batch_progress import follow_batches, what_failed
from irp_pipeline.helpers.constants import BatchStatus
from irp_pipeline.helpers.job_request import JobError
from irp_pipeline.helpers.wanted import declared_batch_type
from irp_pipeline.helpers.world_check import NotReadyError, check_batches
from irp_pipeline.postgres.parameters import json_value, storable_text
from irp_pipeline.postgres.running import execute_command, execute_scalar

_LONGEST_REASON: Final = 2000
_ENDED_BADLY: Final = frozenset({BatchStatus.FAILED, BatchStatus.ERROR, BatchStatus.CANCELLED})


@dataclass
class ChainEnd:
    """How the batches of a chain ended, and which are under way.

    Attributes:
        running: the ids of the batches under way.
        complete: the batches that are complete, in the order of their ends.
        completions: what followed them, by batch type, as their declarations returned it.
        failed: which jobs of which batches have no result, in words.
        problems: why batches could not begin, or what follows them failed, in words.
        waiting: the batches that have not begun, since one before did not complete.
    """

    running: list[int] = field(default_factory=list)
    complete: list[Batch] = field(default_factory=list)
    completions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    waiting: list[Batch] = field(default_factory=list)


def batches_to_begin(cycle_id: int) -> list[Batch]:
    """Return the current batches of a cycle that can be handed over: the first, and those after complete ones."""
    return [link.batch for link in chain_of_cycle(cycle_id) if link.may_begin]


def has_failed(cycle_id: int) -> bool:
    """Tell whether a batch of the chain of a cycle has ended badly, so that a run would repeat what failed."""
    return any(link.batch.status in _ENDED_BADLY for link in chain_of_cycle(cycle_id))


def follow_chain(
    cycle_id: int, end: ChainEnd, *, everything: bool = False, tell: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[str, bool]]:
    """Follow the batches of a cycle to the end of the chain; begin each when its predecessor is complete.

    Batches that could begin before this call were handed over by Submit; of these, only what still waits or has other
    inputs now is handed over here. A batch whose predecessor failed does not begin. The others go on.

    Args:
        cycle_id: the cycle.
        end: is filled on the way.
        everything: let batches that begin compute all of their jobs again.
        tell: called with what is resubmitted, in words.

    Yields:
        After each look, the progress in words, and whether it is another than before.

    Raises:
        EngineError: an engine cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    links = chain_of_cycle(cycle_id)
    end.running += [link.batch.id for link in links if link.is_first]
    begun = set(end.running)
    handed_over = [link.batch for link in links if link.may_begin and not link.is_first]
    begun |= _begin(cycle_id, handed_over, end, failed=False, everything=False, tell=tell)
    for look in follow_batches(end.running):
        for batch_id in look.ended:
            if _end(batch_id, end):
                following = [
                    link.batch
                    for link in links
                    if link.before is not None and link.before.id == batch_id and link.batch.id not in begun
                ]
                begun |= _begin(cycle_id, following, end, failed=True, everything=everything, tell=tell)
        if look.progress:
            yield look.progress, look.is_new
    end.waiting += [link.batch for link in links if link.batch.id not in begun]


def what_follows(batch: Batch) -> Mapping[str, Any] | None:
    """Do what follows the completion of a batch, unless it was done for these results; return what was recorded.

    Args:
        batch: a complete batch.

    Raises:
        BatchError: what its type declares fails; the batch stays complete.
        DatabaseError: the database refuses or is away.
    """
    when_complete = declared_batch_type(batch.batch_type).when_complete
    if when_complete is None:
        return None
    content = value_hash(job_contents(batch.id))
    recorded = execute_scalar("SELECT completion FROM irp_batch WHERE id = %s", (batch.id,))
    if recorded is not None and recorded["content"] == content:
        done: Mapping[str, Any] | None = recorded["returned"]
        return done
    try:
        returned = when_complete(batch.id)
        stored = None if returned is None else json_value(dict(returned))
    except Exception as error:
        raise BatchError(
            f"The batch {batch.id} of the type {batch.batch_type} is complete, but what follows it failed: "
            f"{storable_text(f'{type(error).__name__}: {error}', _LONGEST_REASON)}. Launching the cycle again does it "
            "again"
        ) from error
    execute_command(
        "UPDATE irp_batch SET completion = %s WHERE id = %s", ({"content": content, "returned": stored}, batch.id)
    )
    return stored


def is_followed(batch: Batch) -> bool:
    """Tell whether what follows a complete batch was done for its present results; also if nothing follows it."""
    if declared_batch_type(batch.batch_type).when_complete is None:
        return True
    recorded = execute_scalar("SELECT completion ->> 'content' FROM irp_batch WHERE id = %s", (batch.id,))
    return recorded is not None and recorded == value_hash(job_contents(batch.id))


def _begin(
    cycle_id: int,
    batches: Collection[Batch],
    end: ChainEnd,
    *,
    failed: bool,
    everything: bool,
    tell: Callable[[str], None],
) -> set[int]:
    """Hand over what waits of batches, and what has other inputs now; return the ids of those whose turn it was."""
    begun, usable = set(), []
    for batch in batches:
        if not may_begin(cycle_id, batch.batch_type):  # jobs of the one before were resubmitted just now
            continue
        begun.add(batch.id)
        try:
            if renewed := renew_batch(batch.id, everything=everything, failed=failed):
                tell(f"{len(renewed)} jobs of batch {batch.id} ({batch.batch_type}) are submitted again")
            usable.append(batch.id)
        except JobError as error:
            end.problems.append(f"The batch {batch.id} of the type {batch.batch_type} cannot begin. {error}")
    try:
        check_batches(usable)
    except NotReadyError as error:
        end.problems.append(str(error))
        return begun
    for batch_id in usable:
        submit_batch(batch_id)
    end.running += usable
    return begun


def _end(batch_id: int, end: ChainEnd) -> bool:
    """Reconcile a batch whose jobs have ended, and do what follows; tell whether the next one can begin."""
    status = recon_batch(batch_id)
    batch = find_batch(batch_id)
    if status is not BatchStatus.COMPLETED or batch is None:
        end.failed.append(what_failed(batch_id, status))
        return False
    end.complete.append(batch)
    try:
        returned = what_follows(batch)
    except BatchError as error:
        end.problems.append(str(error))
        return False
    if returned is not None:
        end.completions[batch.batch_type] = returned
    return True
