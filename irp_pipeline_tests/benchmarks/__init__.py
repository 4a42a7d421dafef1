"""Benchmarks: what the speed targets are measured with. They are programs and not tests, and no part of ``make test``.

``python -m irp_pipeline_tests.benchmarks`` runs them all; ``docs/benchmarks.md`` explains the figures.
"""
