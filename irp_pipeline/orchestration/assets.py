"""Assets: what a cycle leaves behind, with its lineage and its checks. Each cycle of the default schema is a partition.

Here: the declarations. Not here: the values. The steps materialise the assets and evaluate the checks
(:mod:`irp_pipeline.orchestration.tracking`), and the modules of the stages say which step has which.

https://docs.dagster.io/guides/build/assets/external-assets
https://docs.dagster.io/guides/test/asset-checks
"""

from typing import Final

from dagster import AssetCheckResult, AssetCheckSpec, AssetSpec, Failure, multi_asset_check

from irp_pipeline.orchestration.partitions import cycles

_GROUP: Final = "cycle"

EXTRACT: Final = AssetSpec(
    "extract",
    description="The exposure of each portfolio, copied from its source, with its control totals.",
    group_name=_GROUP,
    partitions_def=cycles,
)
PORTFOLIO: Final = AssetSpec(
    "portfolio",
    deps=[EXTRACT],
    description="The OED files of each portfolio, as a model reads them.",
    group_name=_GROUP,
    partitions_def=cycles,
)
LOSSES: Final = AssetSpec(
    "losses",
    deps=[PORTFOLIO],
    description="The main figures of each analysis and group, from cycle to cycle. The report has all figures.",
    group_name=_GROUP,
    partitions_def=cycles,
)
REPORT: Final = AssetSpec(
    "report",
    deps=[EXTRACT, LOSSES],
    description="The report of the cycle: its summary, the EP curves, and where the page is.",
    group_name=_GROUP,
    partitions_def=cycles,
)
ASSETS: Final = (EXTRACT, PORTFOLIO, LOSSES, REPORT)

# They have no partitions, since checks with partitions are a preview in Dagster. Each evaluation names its cycle.
CONTROL_TOTALS: Final = AssetCheckSpec(
    "control_totals",
    asset=EXTRACT.key,
    description="The extract has the locations, accounts and insured values of its source.",
)
OED_FINDINGS: Final = AssetCheckSpec(
    "oed_findings", asset=EXTRACT.key, description="The extract follows the OED standard, and has what the models need."
)
SANITY_OF_LOSSES: Final = AssetCheckSpec(
    "sanity_of_losses", asset=LOSSES.key, description="The figures can be right, and no change needs an explanation."
)

APPROVAL: Final = AssetCheckSpec(
    "approval",
    asset=LOSSES.key,
    description="A second person has approved the figures, and nothing has changed since. Evaluated for cycles that "
    "wait for approval, and for those that somebody has decided on.",
)


@multi_asset_check(name="checks_of_the_cycle", specs=[CONTROL_TOTALS, OED_FINDINGS, SANITY_OF_LOSSES, APPROVAL])
def checks_of_the_cycle() -> AssetCheckResult:
    """Refuse to evaluate the checks: only the steps of a cycle do."""
    raise Failure("The steps of a cycle evaluate its checks. Launch the job run_cycle with the partition of the cycle")
