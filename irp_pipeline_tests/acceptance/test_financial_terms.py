"""Financial terms of OED: small cases with losses worked out by hand, in one portfolio and one deterministic run.

Every case is an account of its own, and its treaties apply to this account alone. All locations lose half of their
insured value. What is expected is plain arithmetic: it follows from what OED says of the terms, and shares no code with
what computes losses.

https://github.com/OasisLMF/ODS_OpenExposureData
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.portfolio import folder_hash
from irp_pipeline.exposure.validate import Severity, needs_of_perspectives, validate

pytest.importorskip("oasislmf")

SHARE = 0.5
"""Of the insured value that is lost."""
CENT = 0.01
UNCOMPILED = {"NUMBA_DISABLE_JIT": "1"}
"""Compiling takes minutes and changes no figure here."""
Terms = Mapping[str, object]


@dataclass(frozen=True)
class Case:
    """An account.

    Attributes:
        expects: insured loss, and the loss net of reinsurance if there is any.
        ground_up: the ground-up loss, if it is not half of all insured values.
        locations: in what each differs from a building of 1,000 that loses 500.
        policies: the terms of each layer.
        treaties: the terms of each treaty; what begins with ``scope.`` goes into its scope.
    """

    expects: tuple[float, ...]
    locations: tuple[Terms, ...] = ({},)
    policies: tuple[Terms, ...] = ({},)
    treaties: tuple[Terms, ...] = field(default=())
    ground_up: float | None = None


def terms(level: str, coverage: str = "6All", /, **values: float) -> dict[str, object]:
    """Terms of a level, such as ``terms("Loc", Ded=10)``; ``DedType=1`` is a share of the loss, 2 of the value."""
    named: dict[str, object] = {f"{level}Peril": "WTC"}
    for name, value in values.items():
        named[f"{level}{name}{coverage}"] = value
    for name in ("Ded", "Limit"):
        if name in values or (name == "Ded" and {"MinDed", "MaxDed"} & values.keys()):
            named.setdefault(f"{level}{name}{coverage}", 0)
            named.setdefault(f"{level}{name}Type{coverage}", 0)
            named.setdefault(f"{level}{name}Code{coverage}", 0)
    return named


def layer(attachment: float = 0, limit: float = 0, share: float = 1, number: int = 1) -> dict[str, object]:
    """A layer of a policy; limit 0: unlimited."""
    return {
        "PolNumber": f"P{number}",
        "LayerNumber": number,
        "LayerAttachment": attachment,
        "LayerLimit": limit,
        "LayerParticipation": share,
    }


def condition(**values: float) -> dict[str, object]:
    """A condition for the locations with the tag C1."""
    return {"CondTag": "C1", "CondNumber": "1", "CondPriority": 1, **terms("Cond", **values)}


def treaty(
    kind: str, level: str, ceded: float = 1, *, scope: Terms | None = None, **values: object
) -> dict[str, object]:
    """A treaty of a ReinsType and RiskLevel that cedes a share, with the filters and the share of its scope."""
    of_scope = {f"scope.{name}": value for name, value in (scope or {}).items()}
    return {"ReinsType": kind, "RiskLevel": level, "CededPercent": ceded, **values, **of_scope}


TWO: tuple[Terms, ...] = ({}, {"LocNumber": "2", "BuildingTIV": 3000})
"""Locations that lose 500 and 1,500."""
CONTENTS = ({"ContentsTIV": 600},)
"""A location that loses 500 of the building and 300 of the contents."""

CASES: dict[str, Case] = {
    # Terms of locations.
    "no terms": Case((500,)),
    "site deductible": Case((500 - 120,), (terms("Loc", Ded=120),)),
    "site deductible above the loss": Case((0,), (terms("Loc", Ded=700),)),
    "site deductible in percent of loss": Case((500 - 0.2 * 500,), (terms("Loc", Ded=0.2, DedType=1),)),
    "site deductible in percent of value": Case((500 - 0.05 * 1000,), (terms("Loc", Ded=0.05, DedType=2),)),
    "site limit": Case((300,), (terms("Loc", Limit=300),)),
    "site limit above the loss": Case((500,), (terms("Loc", Limit=900),)),
    "site limit in percent of value": Case((0.4 * 1000,), (terms("Loc", Limit=0.4, LimitType=2),)),
    "site limit after deductible": Case((min(500 - 100, 350),), (terms("Loc", Ded=100, Limit=350),)),
    "smallest site deductible": Case((500 - max(0.1 * 500, 80),), (terms("Loc", Ded=0.1, DedType=1, MinDed=80),)),
    "largest site deductible": Case((500 - min(0.5 * 500, 90),), (terms("Loc", Ded=0.5, DedType=1, MaxDed=90),)),
    "deductible of the building": Case(
        ((500 - 120) + 300,), ({"ContentsTIV": 600, **terms("Loc", "1Building", Ded=120)},)
    ),
    "deductibles of coverages": Case(
        ((500 - 120) + (300 - 50),),
        ({"ContentsTIV": 600, **terms("Loc", "1Building", Ded=120), **terms("Loc", "3Contents", Ded=50)},),
    ),
    "limit of the building": Case((200 + 300,), ({"ContentsTIV": 600, **terms("Loc", "1Building", Limit=200)},)),
    "deductible of coverage and site": Case(
        ((500 - 120) + 300 - 60,),
        ({"ContentsTIV": 600, **terms("Loc", "1Building", Ded=120), **terms("Loc", Ded=60)},),
    ),
    "deductible of property damage": Case(
        (500 + 300 - 100 + 200,),
        ({"ContentsTIV": 600, "BITIV": 400, **terms("Loc", "5PD", Ded=100)},),
    ),
    "limit of property damage": Case(
        (min(500 + 300, 450) + 200,), ({"ContentsTIV": 600, "BITIV": 400, **terms("Loc", "5PD", Limit=450)},)
    ),
    "deductibles of two locations": Case(
        ((500 - 120) + (1500 - 200),),
        ({**terms("Loc", Ded=120)}, {**TWO[1], **terms("Loc", Ded=200)}),
    ),
    # Terms of policies and accounts.
    "policy deductible": Case((2000 - 300,), TWO, (terms("Pol", Ded=300),)),
    "policy deductible in percent of loss": Case((2000 - 0.1 * 2000,), TWO, (terms("Pol", Ded=0.1, DedType=1),)),
    "policy deductible in percent of value": Case((2000 - 0.02 * 4000,), TWO, (terms("Pol", Ded=0.02, DedType=2),)),
    "policy limit": Case((1200,), TWO, (terms("Pol", Limit=1200),)),
    "policy deductible and limit": Case((min(2000 - 300, 1500),), TWO, (terms("Pol", Ded=300, Limit=1500),)),
    "smallest policy deductible": Case(
        (2000 - max(120 + 0, 400),), ({**terms("Loc", Ded=120)}, TWO[1]), (terms("Pol", MinDed=400),)
    ),
    "largest policy deductible": Case(
        (2000 - min(400 + 600, 700),),
        ({**terms("Loc", Ded=400)}, {**TWO[1], **terms("Loc", Ded=600)}),
        (terms("Pol", MaxDed=700),),
    ),
    "account deductible": Case((2000 - 250,), TWO, (terms("Acc", Ded=250),)),
    "account limit": Case((1600,), TWO, (terms("Acc", Limit=1600),)),
    "layer limit": Case((900,), TWO, (layer(limit=900),)),
    "layer attachment": Case((2000 - 600,), TWO, (layer(attachment=600),)),
    "layer": Case((min(2000 - 600, 1000),), TWO, (layer(600, 1000),)),
    "layer above the loss": Case((0,), TWO, (layer(2500, 1000),)),
    "share of a layer": Case((0.25 * min(2000 - 600, 1000),), TWO, (layer(600, 1000, 0.25),)),
    "share without a layer": Case((0.4 * 2000,), TWO, (layer(share=0.4),)),
    "two layers": Case((500 + 0.5 * 1000,), TWO, (layer(0, 500), layer(500, 1000, 0.5, number=2))),
    "two overlapping layers": Case((2000 + 2000,), TWO, (layer(limit=5000), layer(limit=5000, number=2))),
    "deductibles, then the layer": Case(
        (min((500 - 120) + 1500 - 300 - 200, 1000) * 0.5,),
        ({**terms("Loc", Ded=120)}, TWO[1]),
        ({**terms("Pol", Ded=300), **layer(200, 1000, 0.5)},),
    ),
    "condition limits one location": Case((150 + 1500,), ({"CondTag": "C1"}, TWO[1]), (condition(Limit=150),)),
    "condition deducts from its locations": Case(
        (500 + 1500 - 350,), ({"CondTag": "C1"}, {**TWO[1], "CondTag": "C1"}), (condition(Ded=350),)
    ),
    "condition, then the layer": Case(
        (min(150 + 1500 - 400, 800),),
        ({"CondTag": "C1"}, TWO[1]),
        ({**condition(Limit=150), **layer(400, 800)},),
    ),
    # Treaties.
    "quota share": Case((2000, 2000 - 0.3 * 2000), TWO, treaties=(treaty("QS", "LOC", 0.3),)),
    "quota share placed in part": Case(
        (2000, 2000 - 0.3 * 0.8 * 2000), TWO, treaties=(treaty("QS", "LOC", 0.3, PlacedPercent=0.8),)
    ),
    "quota share with a limit per risk": Case(
        (2000, 2000 - (0.3 * 500 + 200)), TWO, treaties=(treaty("QS", "LOC", 0.3, RiskLimit=200),)
    ),
    "quota share with a limit per account": Case(
        (2000, 2000 - 200), TWO, treaties=(treaty("QS", "ACC", 0.3, RiskLimit=200),)
    ),
    "quota share with a limit per event": Case(
        (2000, 2000 - 450), TWO, treaties=(treaty("QS", "LOC", 0.3, OccLimit=450),)
    ),
    "quota share of one location": Case(
        (2000, 2000 - 0.3 * 1500), TWO, treaties=(treaty("QS", "LOC", 0.3, scope={"LocNumber": "2"}),)
    ),
    "quota share of a line of business": Case(
        (2000, 2000 - 0.3 * 2000), TWO, ({"LOB": "RES"},), (treaty("QS", "LOC", 0.3, scope={"LOB": "RES"}),)
    ),
    "quota share of another line of business": Case(
        (2000, 2000), TWO, ({"LOB": "RES"},), (treaty("QS", "LOC", 0.3, scope={"LOB": "COM"}),)
    ),
    "quota share of tagged locations": Case(
        (2000, 2000 - 0.3 * 500),
        ({"ReinsTag": "T1"}, TWO[1]),
        treaties=(treaty("QS", "LOC", 0.3, scope={"ReinsTag": "T1"}),),
    ),
    "quota share of one layer": Case(
        (500 + 1000, 1500 - 0.3 * 1000),
        TWO,
        (layer(0, 500), layer(500, 1000, number=2)),
        (treaty("QS", "POL", 0.3, scope={"PolNumber": "P2"}),),
    ),
    "surplus share": Case(
        (2000, 2000 - 0.4 * 1500),
        TWO,
        treaties=(treaty("SS", "LOC", scope={"LocNumber": "2", "CededPercent": 0.4}),),
    ),
    "surplus share of accounts": Case(
        (2000, 2000 - 0.4 * 2000), TWO, treaties=(treaty("SS", "ACC", scope={"CededPercent": 0.4}),)
    ),
    "surplus share with a limit": Case(
        (2000, 2000 - 450),
        TWO,
        treaties=(treaty("SS", "LOC", RiskLimit=450, scope={"LocNumber": "2", "CededPercent": 0.4}),),
    ),
    "per risk excess": Case(
        (2000, 2000 - (min(500 - 400, 800) + min(1500 - 400, 800))),
        TWO,
        treaties=(treaty("PR", "LOC", RiskAttachment=400, RiskLimit=800),),
    ),
    "per risk excess placed in part": Case(
        (2000, 2000 - 0.9 * (100 + 800)),
        TWO,
        treaties=(treaty("PR", "LOC", RiskAttachment=400, RiskLimit=800, PlacedPercent=0.9),),
    ),
    "per risk excess with a limit per event": Case(
        (2000, 2000 - min(100 + 800, 650)),
        TWO,
        treaties=(treaty("PR", "LOC", RiskAttachment=400, RiskLimit=800, OccLimit=650),),
    ),
    "per risk excess of accounts": Case(
        (2000, 2000 - min(2000 - 400, 800)),
        TWO,
        treaties=(treaty("PR", "ACC", RiskAttachment=400, RiskLimit=800),),
    ),
    "per risk excess of groups": Case(
        (2000, 2000 - min(2000 - 400, 800)),
        ({"LocGroup": "G1"}, {**TWO[1], "LocGroup": "G1"}),
        treaties=(treaty("PR", "LGR", RiskAttachment=400, RiskLimit=800, scope={"LocGroup": "G1"}),),
    ),
    "catastrophe excess": Case(
        (2000, 2000 - min(2000 - 700, 1000)), TWO, treaties=(treaty("CXL", "SEL", OccAttachment=700, OccLimit=1000),)
    ),
    "catastrophe excess ceded and placed in part": Case(
        (2000, 2000 - 0.9 * min(0.8 * 2000 - 700, 600)),
        TWO,
        treaties=(treaty("CXL", "SEL", 0.8, OccAttachment=700, OccLimit=600, PlacedPercent=0.9),),
    ),
    "catastrophe excess above the loss": Case(
        (2000, 2000), TWO, treaties=(treaty("CXL", "SEL", OccAttachment=2500, OccLimit=1000),)
    ),
    "two layers of catastrophe excess": Case(
        (2000, 2000 - 300 - 0.5 * 400),
        TWO,
        treaties=(
            treaty("CXL", "SEL", OccAttachment=700, OccLimit=300),
            treaty("CXL", "SEL", OccAttachment=1000, OccLimit=400, PlacedPercent=0.5),
        ),
    ),
    "facultative": Case(
        (2000, 2000 - min(0.5 * 1500 - 100, 400)),
        TWO,
        treaties=(treaty("FAC", "LOC", 0.5, RiskAttachment=100, RiskLimit=400, scope={"LocNumber": "2"}),),
    ),
    "quota shares side by side": Case(
        (2000, 2000 - 0.3 * 2000 - 0.2 * 2000), TWO, treaties=(treaty("QS", "LOC", 0.3), treaty("QS", "LOC", 0.2))
    ),
    "quota share, then catastrophe excess": Case(
        (2000, 0.6 * 2000 - min(0.6 * 2000 - 700, 300)),
        TWO,
        treaties=(
            treaty("QS", "LOC", 0.4),
            treaty("CXL", "SEL", OccAttachment=700, OccLimit=300, InuringPriority=2),
        ),
    ),
    "catastrophe excess, then quota share": Case(
        (2000, 0.6 * (2000 - 300)),
        TWO,
        treaties=(
            treaty("CXL", "SEL", OccAttachment=700, OccLimit=300),
            treaty("QS", "LOC", 0.4, InuringPriority=2),
        ),
    ),
    "surplus, per risk, then catastrophe excess": Case(
        # Surplus: 0.5 of 1,500 leaves 750; per risk: 500 and 750 in excess of 400 leave 400 each.
        (2000, 800 - min(800 - 500, 200)),
        TWO,
        treaties=(
            treaty("SS", "LOC", scope={"LocNumber": "2", "CededPercent": 0.5}),
            treaty("PR", "LOC", RiskAttachment=400, RiskLimit=1000, InuringPriority=2),
            treaty("CXL", "SEL", OccAttachment=500, OccLimit=200, InuringPriority=3),
        ),
    ),
    "deductible, layer, then quota share": Case(
        (min(2000 - 300 - 200, 1000), 0.7 * 1000),
        TWO,
        ({**terms("Pol", Ded=300), **layer(200, 1000)},),
        (treaty("QS", "POL", 0.3, scope={"PolNumber": "P1"}),),
    ),
}


SAME = 9001
"""A ReinsNumber that several rows of a case share."""
OTHER_DATES: dict[str, Any] = {"ReinsInceptionDate": "2024-01-01", "ReinsExpiryDate": "2024-12-31"}
POLICY_DATES: dict[str, Any] = {"PolInceptionDate": "2023-02-01", "PolExpiryDate": "2024-01-31"}

# What follows from what the checks find: by the name of the check.
CONSEQUENCES: dict[str, tuple[Case, ...]] = {
    "location-repeated": (Case((500,), ({}, {"BuildingTIV": 3000}), ground_up=500),),
    "location-copied": (Case((500,), ({}, {}), ground_up=500),),
    "location-values-differ": (
        Case(
            (500 - 2 * 100,),
            (
                {"LocPerilsCovered": "WTC;WSS", **terms("Loc", Ded=100)},
                {"LocPerilsCovered": "WTC;WSS", **terms("Loc", Ded=100), "LocPeril": "WSS", "BuildingTIV": 3000},
            ),
            ground_up=500,
        ),
    ),
    "policy-copied": (Case((300,), TWO, (layer(limit=300), layer(limit=300))),),
    "treaty-repeated": (
        Case(
            (500, 500 - 2 * 0.3 * 500),
            treaties=(treaty("QS", "LOC", 0.3, ReinsNumber=SAME, scope={"ReinsNumber": SAME}),) * 2,
        ),
    ),
    "scope-repeated": (
        Case(
            (2000, 2000 - 2 * 0.4 * 1500),
            TWO,
            treaties=(
                treaty("FAC", "LOC", 0.4, ReinsNumber=SAME + 1, scope={"LocNumber": "2", "ReinsNumber": SAME + 1}),
                {"scope.LocNumber": "2", "scope.ReinsNumber": SAME + 1},
            ),
        ),
        Case(
            (2000, 2000 - 0.2 * 1500),
            TWO,
            treaties=(
                treaty(
                    "SS",
                    "LOC",
                    ReinsNumber=SAME + 2,
                    scope={"LocNumber": "2", "CededPercent": 0.3, "ReinsNumber": SAME + 2},
                ),
                {"scope.LocNumber": "2", "scope.CededPercent": 0.2, "scope.ReinsNumber": SAME + 2},
            ),
        ),
    ),
    "condtag-unused": (Case((500,), policies=(condition(Limit=100),)),),
    "scope-without-treaty": (Case((500, 500), treaties=({"scope.ReinsNumber": SAME + 3},)),),
    "scope-without-match": (
        Case((500, 500), treaties=(treaty("QS", "LOC", 0.3, scope={"PolNumber": "P9"}),)),
        Case((500, 500), treaties=(treaty("QS", "LOC", 0.3, scope={"LocNumber": "01"}),)),
        Case((500, 500), treaties=(treaty("QS", "LOC", 0.3, scope={"CountryCode": "FR"}),)),
    ),
    "scope-below-risk": (
        Case((2000, 2000 - 200), TWO, treaties=(treaty("QS", "ACC", 0.3, RiskLimit=200, scope={"LocNumber": "2"}),)),
    ),
    "risk-without-group": (Case((2000, 2000 - 200), TWO, treaties=(treaty("QS", "LGR", 0.3, RiskLimit=200),)),),
    "policy-perils-disjoint": (Case((500,), policies=({"PolPerilsCovered": "QQ1"},)),),
    "terms-for-other-peril": (
        Case((500,), ({**terms("Loc", Ded=100), "LocPeril": "QQ1"},)),
        Case((500,), policies=({**terms("Pol", Ded=100), "PolPeril": "QQ1"},)),
        Case((500,), policies=({**terms("Acc", Ded=100), "AccPeril": "QQ1"},)),
        Case((500,), ({"CondTag": "C1"},), ({**condition(Limit=100), "CondPeril": "QQ1"},)),
    ),
    "treaty-perils-disjoint": (Case((500, 350), treaties=(treaty("QS", "LOC", 0.3, ReinsPeril="QQ1"),)),),
    "dates-inverted": (
        Case(
            (500, 500),
            policies=(POLICY_DATES,),
            treaties=(
                treaty(
                    *("QS", "LOC", 0.3),
                    AttachmentBasis="RA",
                    ReinsInceptionDate="2024-01-01",
                    ReinsExpiryDate="2023-01-01",
                ),
            ),
        ),
    ),
    "dates-without-policy": (
        Case(
            (500, 500),
            policies=(POLICY_DATES,),
            treaties=(treaty("QS", "LOC", 0.3, AttachmentBasis="RA", **OTHER_DATES),),
        ),
    ),
    "policies-without-terms": (Case((500,), policies=({}, {"PolNumber": "P2"})),),
    "layer-share-zero": (
        Case((0,), policies=(layer(limit=300, share=0),)),
        Case((500,), policies=(layer(share=0),)),
    ),
    "layer-above-value": (Case((0,), policies=(layer(1000, 100),)),),
    "treaty-share-zero": (
        Case((500, 500), treaties=(treaty("QS", "LOC", 0),)),
        Case((500, 500), treaties=(treaty("QS", "LOC", 0.3, PlacedPercent=0),)),
        Case((500, 500), treaties=(treaty("SS", "LOC", scope={"LocNumber": "1", "CededPercent": 0}),)),
    ),
    "treaty-share-empty": (
        Case((500, 0), treaties=(treaty("QS", "LOC") | {"CededPercent": ""},)),
        Case((500, 0), treaties=(treaty("SS", "LOC", 0.3, scope={"LocNumber": "1"}),)),
    ),
    "scope-share-ignored": (Case((500, 350), treaties=(treaty("QS", "LOC", 0.3, scope={"CededPercent": 0.5}),)),),
    "treaty-term-ignored": (
        Case((500, 350), treaties=(treaty("QS", "LOC", 0.3, OccAttachment=100, RiskAttachment=100, AggLimit=10),)),
        Case((500, 350), treaties=(treaty("QS", "LOC", 0.3, TreatyShare=0.5, DeemedPercentPlaced=0.5),)),
        Case((500, 200), treaties=(treaty("CXL", "SEL", OccLimit=300, RiskLimit=10, RiskAttachment=5),)),
        Case((500, 200), treaties=(treaty("CXL", "SEL", OccLimit=300, OccFranchiseDed=5000, Reinstatement=1),)),
        Case((500, 0), treaties=(treaty("FAC", "LOC", OccLimit=100, scope={"LocNumber": "1"}),)),
    ),
    "treaty-above-value": (
        Case((500, 500), treaties=(treaty("CXL", "SEL", OccLimit=300, OccAttachment=1e9),)),
        Case((500, 500), treaties=(treaty("PR", "LOC", RiskLimit=300, RiskAttachment=1e9),)),
    ),
    "inuring-levels": (Case((500, 0.5 * 0.5 * 500), treaties=(treaty("QS", "LOC", 0.5), treaty("QS", "ACC", 0.5))),),
    "inuring-gap": (Case((500, 350), treaties=(treaty("QS", "LOC", 0.3, InuringPriority=5),)),),
}
FOLLOWS = {
    f"{name} {number}": case for name, cases in CONSEQUENCES.items() for number, case in enumerate(cases, start=1)
}


def write_portfolio(folder: Path, cases: Mapping[str, Case]) -> dict[OedTable, Path]:
    """Write cases as one portfolio; the number of a case is its account."""
    rows: dict[OedTable, list[dict[str, object]]] = {table: [] for table in OedTable}
    for number, case in enumerate(cases.values(), start=1):
        key = {"PortNumber": "1", "AccNumber": f"{number:03}", "OEDVersion": "4.0.0"}
        for location in case.locations:
            rows[OedTable.LOCATION].append(
                key
                | {
                    "LocNumber": "1",
                    "CountryCode": "GB",
                    "OccupancyCode": 1050,
                    "ConstructionCode": 5000,
                    "LocPerilsCovered": "WTC",
                    "BuildingTIV": 1000,
                    "OtherTIV": 0,
                    "ContentsTIV": 0,
                    "BITIV": 0,
                    "LocCurrency": "GBP",
                }
                | dict(location)
            )
        for policy in case.policies:
            rows[OedTable.ACCOUNT].append(
                key | {"PolNumber": "P1", "AccCurrency": "GBP", "PolPerilsCovered": "WTC"} | dict(policy)
            )
        for place, terms_of_treaty in enumerate(case.treaties):
            identity = {"ReinsNumber": number * 10 + place, "OEDVersion": "4.0.0"}
            scope = {name.removeprefix("scope."): value for name, value in terms_of_treaty.items() if "." in name}
            info = {name: value for name, value in terms_of_treaty.items() if "." not in name}
            rows[OedTable.RI_SCOPE].append(key | identity | scope)
            if not info:
                continue
            rows[OedTable.RI_INFO].append(
                identity
                | {
                    "ReinsLayerNumber": 1,
                    "ReinsPeril": "WTC",
                    "PlacedPercent": 1,
                    "ReinsCurrency": "GBP",
                    "InuringPriority": 1,
                }
                | info
            )
    files = {}
    for table, records in rows.items():
        files[table] = folder / f"{table}.csv"
        with files[table].open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for record in records for name in record)))
            writer.writeheader()
            writer.writerows(records)
    return files


def losses_by_account(folder: Path) -> dict[str, dict[str, float]]:
    """Run the portfolio of a folder, and add up the losses of each account; items without loss are not in the files.

    This is the one place here that knows the files of Oasis LMF.
    """
    (folder / "oasislmf.json").write_text(json.dumps({"print_summary": False, "portfolio_complexity": False}))
    run = folder / "run"
    command = [
        *(str(Path(sys.executable).with_name("oasislmf")), "exposure", "run", "-C", "oasislmf.json", "-s", str(folder)),
        *("-r", str(run), "-f", str(folder / "losses.csv"), "-o", "loc", "-l", str(SHARE)),
    ]
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(command, cwd=folder, env=os.environ | path | UNCOMPILED, check=True, capture_output=True)
    losses: dict[str, dict[str, float]] = {}
    for row in read(run / "fm_summary_map.csv"):
        losses[row["AccNumber"]] = {"gul": 0.0, "il": 0.0, "ri": 0.0}
    for name, file, summary_map, key in (
        ("gul", "guls.csv", "gul_summary_map.csv", "item_id"),
        ("il", "ils.csv", "fm_summary_map.csv", "output_id"),
        ("ri", "rils.csv", "fm_summary_map.csv", "output_id"),
    ):
        account_of = {row[key]: row["AccNumber"] for row in read(run / summary_map)}
        for row in read(run / file):
            losses[account_of[row[key]]][name] += float(row["loss"])
    return losses


def losses_of_job(portfolio: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Run a portfolio as a job does, and add up the losses of each account as they are exported."""
    inputs = folder / "inputs"
    shutil.copytree(portfolio, inputs)
    analysis = {
        "name": "terms",
        "engine": "oasis_deterministic",
        "loss_factor": [SHARE],
        "perspectives": ["GUL", "IL", "RI"],
        "currency": "GBP",
    }
    request = {"analysis": analysis, "exposure_hash": folder_hash(inputs)}
    (folder / "request.json").write_text(json.dumps({"request": request}))
    command = [sys.executable, "-m", "irp_pipeline.engines.oasis", str(folder)]
    environment = os.environ | UNCOMPILED | {"IRP_HOME": str(folder / "home")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.returncode == 0, (folder / "error.txt").read_text()
    table = pq.read_table(folder / "results" / "losses.parquet").to_pandas()
    sums = table.groupby("AccNumber")[["gul", "il", "ri"]].sum()
    return {str(account): {str(name): float(loss) for name, loss in row.items()} for account, row in sums.iterrows()}


def read(file: Path) -> list[dict[str, Any]]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


Losses = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def portfolio(tmp_path_factory: pytest.TempPathFactory) -> dict[OedTable, Path]:
    return write_portfolio(tmp_path_factory.mktemp("terms"), CASES)


@pytest.fixture(scope="module")
def losses(portfolio: dict[OedTable, Path], tmp_path_factory: pytest.TempPathFactory) -> Losses:
    return losses_of_job(portfolio[OedTable.LOCATION].parent, tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> dict[OedTable, Path]:
    return write_portfolio(tmp_path_factory.mktemp("consequences"), FOLLOWS)


@pytest.fixture(scope="module")
def losses_of_doubtful(doubtful: dict[OedTable, Path]) -> Losses:
    return losses_by_account(doubtful[OedTable.LOCATION].parent)


def assert_losses(found: Mapping[str, float], case: Case) -> None:
    values = [
        float(str(location.get(coverage, 1000 if coverage == "BuildingTIV" else 0)))
        for location in case.locations
        for coverage in ("BuildingTIV", "ContentsTIV", "BITIV")
    ]
    ground_up = SHARE * sum(values) if case.ground_up is None else case.ground_up
    # Oasis LMF rounds each item of the files that are read here to the cent.
    rounded = CENT * max(1, len(values) * len(case.policies) / 2)
    assert found["gul"] == pytest.approx(ground_up, abs=CENT)
    assert found["il"] == pytest.approx(case.expects[0], abs=rounded)
    assert found["ri"] == pytest.approx(case.expects[-1], abs=rounded)


def test_there_are_at_least_forty_cases_and_none_of_them_is_wrong_for_the_checks(
    portfolio: dict[OedTable, Path],
) -> None:
    assert len(CASES) >= 40
    findings = validate(portfolio, needs=needs_of_perspectives(["GUL", "IL", "RI"]))
    assert [str(finding) for finding in findings if finding.severity is Severity.ERROR] == []


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_what_the_terms_say(losses: Losses, name: str) -> None:
    assert_losses(losses[f"{list(CASES).index(name) + 1:03}"], CASES[name])


def test_what_is_doubtful_is_found(doubtful: dict[OedTable, Path]) -> None:
    found = {finding.check for finding in validate(doubtful, needs=needs_of_perspectives(["GUL", "IL", "RI"]))}
    assert found >= CONSEQUENCES.keys()


@pytest.mark.parametrize("name", FOLLOWS)
def test_a_finding_says_truly_what_follows(losses_of_doubtful: Losses, name: str) -> None:
    assert_losses(losses_of_doubtful[f"{list(FOLLOWS).index(name) + 1:03}"], FOLLOWS[name])
