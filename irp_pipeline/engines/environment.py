"""The environment of a job's program: only variables on a list.

The worker that runs the job passes on the variables of its own environment that are on the list: what a program needs
to find files and to use the machine as configured, such as paths, language, time zone, certificates and numbers of
threads, and the variables that the engine itself names. It leaves out everything about Python (a folder of somebody's
modules, a start-up file), addresses, proxies and passwords. If a model needs more, name it in ``IRP_JOB_ENV``, such as
``AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY`` for a model on S3.
"""

import os
from collections.abc import Collection, Mapping
from typing import Final

from irp_pipeline import settings

_NAMES: Final = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMEXPR_MAX_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "BLIS_NUM_THREADS",
        "GOTO_NUM_THREADS",
    }
)
_PREFIXES: Final = ("LC_", "OMP_", "OPENBLAS_")
_OF_PYTHON: Final = {
    "PYTHONSAFEPATH": "1",  # or a file in the working folder would be executed instead of a module of the same name
    "PYTHONUNBUFFERED": "1",  # or the log would show errors before earlier output
}


def job_environment(of_engine: Collection[str] = ()) -> dict[str, str]:
    """Return the environment for the program of a job that this process runs.

    Args:
        of_engine: names of more variables, which the engine's program reads; ``*`` at the end makes it a prefix.

    Raises:
        SettingsError: ``IRP_JOB_ENV`` is not a list of names.
    """
    named = {name: os.environ[name] for name in settings.job_environment_names() if name in os.environ}
    prefixes = tuple(name.removesuffix("*") for name in of_engine if name.endswith("*"))
    own = {name: value for name, value in os.environ.items() if name in of_engine or name.startswith(prefixes)}
    return _allowed(os.environ) | own | named


def of_this_project() -> dict[str, str]:
    """Return the additional variables of every process of a job: the folders of this project, and a safe start."""
    return {"IRP_HOME": str(settings.irp_home())} | _OF_PYTHON


def _allowed(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name in _NAMES or name.startswith(_PREFIXES)}
