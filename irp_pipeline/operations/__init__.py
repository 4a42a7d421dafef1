"""Running an installation: backup and restore, removing files that nobody needs, and telling whether all is well.

Here belongs what an operator does to a whole schema and its files. Each command of ``irp`` for operators is one
function here. What happens within a cycle belongs in :mod:`irp_pipeline.helpers`.

``backup``, ``restore``
    a schema's rows and its cycles' files, in one archive and back.
``archive``, ``packing``, ``records``, ``swap``
    the archive; putting files into it; the rows of a schema; changing the files of a schema for others.
``pruning``
    files that no record refers to.
``health``
    what monitoring wants to know.
"""
