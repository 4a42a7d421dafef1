"""``python -m irp_pipeline.cli``: the same as ``irp``, for when the script is not on the PATH."""

from irp_pipeline.cli import main

main()
