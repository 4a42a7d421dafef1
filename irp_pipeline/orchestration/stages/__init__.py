"""The stages of a cycle: one module each, with its steps as ops and the graph that orders them.

A step is a function with :func:`irp_pipeline.orchestration.tracking.step` above it and its place in the graph below.
What it does in substance is for the helpers: a step reads what earlier ones left in the database and in the cycle's
folder, calls them, and returns the figures worth recording.
"""
