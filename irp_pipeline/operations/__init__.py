"""Operating an installation: backup and restore, removing unneeded files, and checking its health.

Here: what an operator does with a whole schema and its files. Each operator command of ``irp`` is one function here.
What happens within a cycle belongs in :mod:`irp_pipeline.helpers`.

``backup``, ``restore``
    saving a schema's rows and its cycles' files in one archive, and restoring them.
``archive``, ``packing``, ``records``, ``swap``
    the archive; packing files; the rows of a schema; replacing the files of a schema.
``pruning``
    files that no record refers to.
``health``
    the checks for monitoring.
"""
