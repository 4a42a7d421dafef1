"""Partitions: each cycle of the default schema is a partition.

https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets#dynamic-partitions
"""

from dagster import DynamicPartitionsDefinition

CYCLES = "cycles"

cycles = DynamicPartitionsDefinition(name=CYCLES)
