"""Insurance risk processing: quarterly catastrophe-risk cycles on Dagster and PostgreSQL.

Importing the package loads nothing and connects to nothing. Start with :mod:`irp_pipeline.helpers`
from a script or a notebook, and with ``irp --help`` on the command line.
"""

__version__ = "0.1.0"
