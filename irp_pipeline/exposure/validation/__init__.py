"""The checks of an exposure, one module a kind, and the findings that they make.

:mod:`irp_pipeline.exposure.validate` runs them all.
"""
