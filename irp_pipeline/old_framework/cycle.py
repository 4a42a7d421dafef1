"""Old names of ``helpers.cycle``."""

from __future__ import annotations

from irp_pipeline.helpers.cycle import CycleError, archive_cycle, check_cycle_name, create_cycle, get_cycle_by_name
from irp_pipeline.old_framework import gone, replaced_by


@replaced_by("create_cycle")
def register_cycle(cycle_name: str) -> int:
    """Create a cycle and return its id."""
    return create_cycle(cycle_name)


@replaced_by("archive_cycle, with the id of get_cycle_by_name")
def archive_cycle_by_name(cycle_name: str) -> bool:
    """Archive a cycle; return whether there is one of that name."""
    cycle = get_cycle_by_name(cycle_name)
    return cycle is not None and archive_cycle(cycle["id"])


@replaced_by("check_cycle_name, which says what is wrong")
def validate_cycle_name(cycle_name: str) -> bool:
    """Tell whether a cycle can have a name."""
    try:
        check_cycle_name(cycle_name)
    except CycleError:
        return False
    return True


register_stages_and_steps = gone(
    "register_stages_and_steps", "get_or_create_stage and get_or_create_step make them when they are first needed"
)
