"""The risk engine Oasis LMF: deterministic and stochastic losses of an OED portfolio, on this machine.

``__main__``
    the program of a job; all of Oasis LMF happens in its process and those it starts.
``model``, ``hashes``, ``needs``, ``examine``
    what a model folder says about itself, what its losses depend on, which packages it needs, and a trial of it.
``options``
    which entries the column ``model_options`` may have.
``analysis``
    the analysis settings that Oasis LMF is given.
``compilation``
    what of Oasis LMF is compiled before a job.
``portfolio``, ``run_facts``
    what the portfolio says, and what the run used: the two sides that are compared.
``deterministic``, ``streams``, ``figures``
    from its output files to losses and figures.
``checks``
    whether figures are what they must be.
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
