"""Control totals: what they are, how a database computes them, and how they are compared.

Nothing here opens a source: see :mod:`irp_pipeline.exposure.readers.totals`.
"""
