"""Whether Oasis LMF and a model could run now, without running them."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.engines.oasis.failures import OasisError

_NOT_INSTALLED: Final = "Oasis LMF is not installed on this machine: pip install 'irp-pipeline[oasis]'"


def usable(named: Mapping[str, Any], paths: Mapping[str, str]) -> Iterator[str]:
    """Say what keeps a job from running: Oasis LMF, a part of its model, or a package that the model needs.

    Packages only matter if this machine runs jobs. ``irp model check`` says more, since it runs the model.

    Args:
        named: the columns of the analysis that say which model computes the losses.
        paths: the files that the analysis names, by column.
    """
    runs_here = settings.job_slots() > 0
    if runs_here and find_spec("oasislmf") is None:
        yield _NOT_INSTALLED
        return
    if "model" not in paths:
        return
    from irp_pipeline.engines.oasis.model import check_model, read_model
    from irp_pipeline.engines.oasis.packages import packages_needed

    try:
        model = read_model(Path(paths["model"]), named.get("model_options") or {})
        check_model(model)
        needs = packages_needed(model) if runs_here else []
    except (OasisError, OSError) as error:
        yield f"the model {named['model']} cannot be used: {error}"
        return
    for need in needs:
        if not need.is_there:
            yield (
                f"the model {named['model']} needs {need.package} for {need.why}, which is not installed: {need.remedy}"
            )
