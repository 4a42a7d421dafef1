"""The Dagster instance: where it is.

``DAGSTER_HOME`` names the instance, as everywhere in Dagster. Without it the instance is in ``IRP_HOME``, with the
``dagster.yaml`` of this project.

https://docs.dagster.io/deployment/oss/oss-instance-configuration
"""

import os
from pathlib import Path

import irp_pipeline
from irp_pipeline import settings
from irp_pipeline.files import write_atomically
from irp_pipeline.orchestration.storage import dagster_files

CODE_LOCATION = "irp_pipeline.definitions"
"""The name under which the UI loads the definitions: runs of the command line carry it to be found there."""

_CONFIGURATION = "dagster.yaml"


def use_dagster_home() -> Path:
    """Make sure that ``DAGSTER_HOME`` names an instance, for this process and those it starts.

    Returns:
        The folder, with a ``dagster.yaml`` in it.

    Raises:
        SettingsError: ``IRP_HOME`` cannot be made.
    """
    named = os.environ.get("DAGSTER_HOME")
    if named:
        return Path(named)
    settings.make_irp_home()
    home = dagster_files()
    write_atomically(home / _CONFIGURATION, shipped_configuration().read_text())
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def shipped_configuration() -> Path:
    """Return the ``dagster.yaml`` of this project: inside of an installed package, beside the package in a checkout."""
    package = Path(irp_pipeline.__file__).parent
    inside = package / _CONFIGURATION
    return inside if inside.is_file() else package.parent / _CONFIGURATION
