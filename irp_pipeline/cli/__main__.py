"""``python -m irp_pipeline.cli``: the same as ``irp``, where the script is not on the PATH."""

from irp_pipeline.cli import main

main()
