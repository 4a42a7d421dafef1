"""The checks of an exposure, with a module for each kind, and their findings.

:mod:`irp_pipeline.exposure.validate` runs them all.
"""
