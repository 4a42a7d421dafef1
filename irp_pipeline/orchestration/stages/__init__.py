"""The stages of a cycle: one module each, with its steps as ops and the graph that orders them.

A step is a function with :func:`irp_pipeline.orchestration.tracking.step` above it and its place in the graph below.
The helpers do the actual work: a step reads the output of earlier steps from the database and the cycle's folder, calls
helpers, and returns the figures to record.
"""
