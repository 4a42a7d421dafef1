"""Control totals: what they are, how a database adds them up, how two of them are compared.

Nothing here opens a source: see :mod:`irp_pipeline.exposure.readers.totals`.
"""
