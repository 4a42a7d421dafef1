"""Exposure at a glance: how much of what, where, how concentrated, and how well known.

``records``
    the values.
``reading``, ``adding_up``, ``circles``, ``grid``
    the locations of a portfolio in arrays; their totals by segment and by quality; the circles that insure the most;
    the cells of a map.
``computing``
    the profile of all portfolios of a cycle, from their extracts.
``tables``
    the profile as Parquet files, and from them.
``changes``
    how it differs from the profile of another cycle.
"""
