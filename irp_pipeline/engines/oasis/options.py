"""Which entries the column ``model_options`` may have: those that Oasis LMF knows and the job does not set itself."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any, Final

from irp_pipeline.engines.oasis import DETERMINISTIC, STOCHASTIC
from irp_pipeline.engines.oasis.model import BROUGHT_BY_JOB, SET_BY_PROJECT, known_entries, under_present_names
from irp_pipeline.exposure.oed import perils_of

_OF_DETERMINISTIC: Final = (
    "do_disaggregation",
    "fmpy_low_memory",
    "kernel_alloc_rule_il",
    "kernel_alloc_rule_ri",
    "model_perils_covered",
    "supported_oed_coverage_types",
)
_COVERAGES: Final = (1, 2, 3, 4)
_ALLOCATION_RULES: Final = (1, 2, 3)
"""The rules that allocate losses back to locations; 0 leaves them with the layers of policies."""
_SAY_OTHERWISE: Final = {
    "kernel_num_processes": "IRP_JOB_PROCESSES says how many processes the kernel has",
    "analysis_settings_json": "the column settings names the file",
}


def options_problem(analysis: Mapping[str, Any]) -> str | None:
    """Say which entry of ``model_options`` is not allowed, and what to do; None if all are.

    Args:
        analysis: a row of the sheet Analyses. If Oasis LMF is not installed, the allowed entries of a model are unknown
            and are not checked.
    """
    options = analysis.get("model_options") or {}
    if analysis.get("engine") == DETERMINISTIC:
        if unused := sorted(options.keys() - set(_OF_DETERMINISTIC)):
            return f"deterministic losses do not use {', '.join(unused)}; they use {', '.join(_OF_DETERMINISTIC)}"
        return next(filter(None, (_value_problem(name, value) for name, value in options.items())), None)
    if not options or analysis.get("engine") != STOCHASTIC or find_spec("oasislmf") is None:
        return None
    known = known_entries()
    for name in under_present_names(options):
        if name not in known:
            close = get_close_matches(name, known, 1)
            return f"{name!r} is no entry that Oasis LMF knows" + (f"; do you mean {close[0]}?" if close else "")
        if name in BROUGHT_BY_JOB or name in SET_BY_PROJECT:
            return f"{name!r} is set by the job itself: {_SAY_OTHERWISE.get(name, 'leave it out')}"
    return None


def _value_problem(name: str, value: object) -> str | None:
    """What is wrong with the value of an option of deterministic losses."""
    if name == "model_perils_covered":
        if not isinstance(value, list | tuple) or not value or not all(isinstance(code, str) for code in value):
            return f'{name} must be a list of peril codes, such as ["WTC"]'
        unknown = [code for code in value if not perils_of(code)]
        return f"{', '.join(unknown)} in {name} is no peril code of OED" if unknown else None
    if name == "supported_oed_coverage_types":
        if isinstance(value, list | tuple) and value and all(of in _COVERAGES for of in value):
            return None
        return f"{name} must be a list of whole numbers from {_COVERAGES[0]} to {_COVERAGES[-1]}, such as [1, 3]"
    if name.startswith("kernel_alloc_rule"):
        is_rule = isinstance(value, int) and not isinstance(value, bool) and value in _ALLOCATION_RULES
        return None if is_rule else f"{name} must be 1, 2 or 3: losses by location need one"
    return None if isinstance(value, bool) else f"{name} must be true or false"
