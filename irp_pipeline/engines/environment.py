"""What a job's program and its supervisor get of the environment: names on a list, and nothing else.

It is the environment of whoever submits a job that counts. A supervisor may have been started by another process, and
hands on nothing of its own.

On the list is what a program needs to find its way and to use the machine as it was told: paths, language, time zone,
certificates, numbers of threads, and the variables that the engine itself names. Not on it: everything about Python (a
folder of somebody's modules, a start-up file), addresses, proxies and passwords. Whoever needs more of it for a model
names it in ``IRP_JOB_ENV``, such as ``AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY`` for a model on S3.
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
_OF_SUPERVISORS: Final = ("IRP_JOB_SLOTS",)
_OF_PYTHON: Final = {
    "PYTHONSAFEPATH": "1",  # or a file in the working folder would be executed in place of a module of the same name
    "PYTHONUNBUFFERED": "1",  # or the log would show errors before what was printed earlier
}


def job_environment(of_engine: Collection[str] = ()) -> dict[str, str]:
    """Return what the program of a job that this process submits is to have in its environment.

    Args:
        of_engine: more names, of variables that the engine's program reads; with ``*`` at the end, what names begin
            with.

    Raises:
        SettingsError: ``IRP_JOB_ENV`` is not a list of names.
    """
    named = {name: os.environ[name] for name in settings.job_environment_names() if name in os.environ}
    prefixes = tuple(name.removesuffix("*") for name in of_engine if name.endswith("*"))
    own = {name: value for name, value in os.environ.items() if name in of_engine or name.startswith(prefixes)}
    return _allowed(os.environ) | own | named


def supervisor_environment() -> dict[str, str]:
    """Return the environment of a supervisor that this process starts."""
    slots = {name: os.environ[name] for name in _OF_SUPERVISORS if name in os.environ}
    return _allowed(os.environ) | slots | of_this_project()


def of_this_project() -> dict[str, str]:
    """Return what every process of a job has besides: where this project keeps its files, and a safe start."""
    return {"IRP_HOME": str(settings.irp_home())} | _OF_PYTHON


def _allowed(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name in _NAMES or name.startswith(_PREFIXES)}
