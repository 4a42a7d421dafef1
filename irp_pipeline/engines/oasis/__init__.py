"""The risk engine Oasis LMF: deterministic and stochastic losses of an OED portfolio, on this machine.

``declaration``, ``columns``
    its declaration, which is all that other code uses; its columns of the sheet Analyses.
``__main__``
    the program of a job; Oasis LMF only runs in its process and in those it starts.
``model``, ``hashes``, ``needs``, ``examine``
    what a model folder says about itself, what its losses depend on, what it needs of a portfolio, and a trial of it.
``usable``
    whether it and a model could run now.
``options``
    which entries the column ``model_options`` may have.
``analysis``
    the analysis settings for Oasis LMF.
``compilation``
    the parts of Oasis LMF that are compiled before a job.
``portfolio``, ``run_facts``
    what the portfolio says, and what the run used: the two sides of the comparison.
``deterministic``, ``streams``, ``figures``
    from its output files to losses and figures.
``checks``
    whether figures are what they must be.
``failures``
    the one line that says why Oasis LMF failed.

https://oasislmf.github.io/
"""

import sys
from pathlib import Path

from irp_pipeline.engines.protocol import RiskEngine

DETERMINISTIC = "oasis_deterministic"
STOCHASTIC = "oasis_stochastic"
_ENVIRONMENT = (
    "NUMBA_*",
    "OASIS_AAL_MEMORY",
    "OASIS_AREAPERIL_TYPE",
    "OASIS_DEFAULT_BUFFER_SIZE",
    "OASIS_FLOAT",
    "OASIS_INT",
    "OASIS_MAX_BLOC_SIZE",
    "OASIS_MIN_BLOC_SIZE",
    "OASIS_PACKAGE_LOG_LEVEL",
    "OASIS_PYTOOLS_LOG_LEVEL",
    "OASIS_VULNERABILITY_BLOC_SIZE",
)
"""Variables that Oasis LMF and Numba read."""


def oasis(jobs_folder: Path) -> RiskEngine:
    """Return the engine for the jobs in a folder.

    A request has ``analysis``, a row of the workbook's sheet Analyses with the ``currency`` of its losses;
    ``inputs``, the OED files by name; ``exposure_hash``, the digest of their folder that
    :func:`irp_pipeline.exposure.portfolio.exposure_hash` gives; and for a stochastic one ``model`` and, if there is
    one, ``settings``: paths on this machine.
    """
    from irp_pipeline.engines.local import LocalEngine  # with the database, which a declaration does not need
    from irp_pipeline.engines.oasis.usable import usable

    return LocalEngine(jobs_folder, [sys.executable, "-m", __name__], environment=_ENVIRONMENT, usable=usable)
