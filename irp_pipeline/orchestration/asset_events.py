"""Asset events: telling Dagster that a step has materialised an asset or evaluated a check, for one cycle.

An event carries a data version, the hash of what it tells of. Work is always told. What was done before is told only if
the newest event has another data version, so that an instance that was rebuilt catches up.

https://docs.dagster.io/guides/build/assets/asset-versioning-and-caching
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetMaterialization,
    AssetRecordsFilter,
    AssetSpec,
    DagsterInstance,
    MetadataValue,
    OpExecutionContext,
    UrlMetadataValue,
)

from irp_pipeline import settings
from irp_pipeline.orchestration.internals import DATA_VERSION_TAG, PartitionKeyFilter

DATA_VERSION: Final = "data version"
"""The name of the data version in the metadata of a check, which has no tags."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a check found.

    Attributes:
        severity: of the worst finding; None if the check has passed.
        description: the outcome in a sentence.
        metadata: figures and findings, as Dagster takes metadata.
    """

    severity: AssetCheckSeverity | None
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_counts(cls, errors: int, warnings: int, metadata: Mapping[str, Any]) -> "Outcome":
        """Return the outcome of a check that has passed if there are neither errors nor warnings."""
        severity = AssetCheckSeverity.WARN if warnings else None
        return cls(
            severity=AssetCheckSeverity.ERROR if errors else severity,
            description=f"Errors: {errors:,}; warnings: {warnings:,}",
            metadata=metadata,
        )


def link_to(page: str) -> UrlMetadataValue:
    """Return a link to a page of :mod:`irp_pipeline.pages`: at ``IRP_UI_URL``, else beside the UI that shows it.

    Args:
        page: the address of the page, relative to the host.
    """
    address = None
    with suppress(settings.SettingsError):  # irp doctor names it; no step fails for a link
        address = settings.ui_url()
    return MetadataValue.url(f"{address or ''}{page}")


def materialise(
    context: OpExecutionContext,
    asset: AssetSpec,
    partition: str,
    version: str,
    metadata: Callable[[], Mapping[str, Any]],
    *,
    is_new: bool,
) -> None:
    """Tell Dagster that an asset is materialised.

    Args:
        context: of the op.
        asset: the asset.
        partition: the name of the cycle.
        version: the data version.
        metadata: returns the metadata; called only if there is something to tell.
        is_new: whether the work was done now.
    """
    if is_new or _version_of_asset(context.instance, asset, partition) != version:
        context.log_event(
            AssetMaterialization(asset.key, partition=partition, metadata=metadata(), tags={DATA_VERSION_TAG: version})
        )


def evaluate(
    context: OpExecutionContext,
    check: AssetCheckSpec,
    partition: str,
    version: str | None,
    outcome: Callable[[], Outcome],
    *,
    is_new: bool,
) -> None:
    """Tell Dagster what a check found.

    Args:
        context: of the op.
        check: the check.
        partition: the name of the cycle.
        version: the data version; None if the step failed and has none.
        outcome: returns what was found; called only if there is something to tell.
        is_new: whether the check was made now.
    """
    if is_new or _version_of_check(context.instance, check, partition) != version:
        found = outcome()
        evaluation = AssetCheckEvaluation(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=found.severity is None,
            severity=found.severity or AssetCheckSeverity.ERROR,
            description=f"{partition}: {found.description}",  # the page with the history does not show partitions
            metadata={**found.metadata, **({} if version is None else {DATA_VERSION: version})},
            partition=partition,
        )
        context.log_event(evaluation)  # type: ignore[arg-type] # Dagster takes it, and its annotation has left it out


def _version_of_asset(instance: DagsterInstance, asset: AssetSpec, partition: str) -> str | None:
    """The data version of the newest materialisation; None if there is none."""
    newest = instance.fetch_materializations(AssetRecordsFilter(asset.key, asset_partitions=[partition]), limit=1)
    found = [record.asset_materialization for record in newest.records]
    return (found[0].tags or {}).get(DATA_VERSION_TAG) if found and found[0] is not None else None


def _version_of_check(instance: DagsterInstance, check: AssetCheckSpec, partition: str) -> str | None:
    """The data version of the newest evaluation; None if there is none, or if its step failed."""
    history = instance.event_log_storage.get_asset_check_execution_history(
        check.key, limit=1, partition_filter=PartitionKeyFilter(key=partition)
    )
    event = history[0].event if history else None
    data = event.dagster_event.event_specific_data if event is not None and event.dagster_event is not None else None
    if not isinstance(data, AssetCheckEvaluation) or DATA_VERSION not in data.metadata:
        return None
    return str(data.metadata[DATA_VERSION].value)
