"""The risk engine Oasis LMF: deterministic and stochastic losses of an OED portfolio, on this machine.

``__main__``
    the program of a job; all of Oasis LMF happens in its process and those it starts.
``model``
    what a model folder says about itself.
``analysis``
    the analysis settings that Oasis LMF is given.
``figures``
    from its output files to figures.
``failures``
    the one line that says why it failed.

https://oasislmf.github.io/
"""

import sys
from pathlib import Path

from irp_pipeline.engines.local import LocalEngine

DETERMINISTIC = "oasis_deterministic"
STOCHASTIC = "oasis_stochastic"


def oasis(jobs_folder: Path) -> LocalEngine:
    """Return the engine for the jobs in a folder.

    A request has ``analysis``, a row of the workbook's sheet Analyses with the ``currency`` of its losses;
    ``inputs``, the OED files by name; ``exposure_hash``, the digest of their folder that
    :func:`irp_pipeline.exposure.portfolio.exposure_hash` gives; and for a stochastic one ``model`` and, if there is
    one, ``settings``: paths on this machine.
    """
    return LocalEngine(jobs_folder, [sys.executable, "-m", __name__])
