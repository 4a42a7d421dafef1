"""References between the tables and terms without effect: what is found, where, and what follows from it."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.sources import FileSource
from irp_pipeline.exposure.validate import (
    Finding,
    Needs,
    PortfolioFindings,
    needs_of_perspectives,
    refused_portfolios,
    validate,
)
from irp_pipeline.exposure.validation.checks import CHECKS, Severity

CASES = Path(__file__).parents[2] / "cases"
PAGE = Path(__file__).parents[3] / "docs" / "exposure_checks.md"
ALL_LOSSES = needs_of_perspectives(["GUL", "IL", "RI"])
LOC, ACC, INFO, SCOPE = OedTable.LOCATION, OedTable.ACCOUNT, OedTable.RI_INFO, OedTable.RI_SCOPE
ROWS: dict[OedTable, dict[str, object]] = {
    LOC: {
        "PortNumber": "1",
        "AccNumber": "A1",
        "LocNumber": "1",
        "CountryCode": "GB",
        "OccupancyCode": 1050,
        "ConstructionCode": 5000,
        "LocPerilsCovered": "WTC",
        "BuildingTIV": 1000,
        "OtherTIV": 0,
        "ContentsTIV": 500,
        "BITIV": 0,
        "LocCurrency": "GBP",
        "OEDVersion": "4.0.0",
    },
    ACC: {
        "PortNumber": "1",
        "AccNumber": "A1",
        "PolNumber": "P1",
        "AccCurrency": "GBP",
        "PolPerilsCovered": "WTC",
        "LayerNumber": 1,
        "LayerParticipation": 1,
        "LayerLimit": 1000,
        "LayerAttachment": 0,
        "OEDVersion": "4.0.0",
    },
    INFO: {
        "ReinsNumber": 1,
        "ReinsLayerNumber": 1,
        "ReinsPeril": "WTC",
        "CededPercent": 0.5,
        "RiskLimit": 0,
        "RiskAttachment": 0,
        "OccLimit": 0,
        "OccAttachment": 0,
        "PlacedPercent": 1,
        "ReinsCurrency": "GBP",
        "InuringPriority": 1,
        "ReinsType": "QS",
        "RiskLevel": "LOC",
        "OEDVersion": "4.0.0",
    },
    SCOPE: {"ReinsNumber": 1, "PortNumber": "1", "AccNumber": "A1", "OEDVersion": "4.0.0"},
}
SECOND: dict[str, object] = {"LocNumber": "2"}
CONDITION: dict[str, object] = {
    "CondTag": "C1",
    "CondNumber": "1",
    "CondPriority": 1,
    "CondPeril": "WTC",
    "CondLimit6All": 100,
    "CondLimitType6All": 0,
}
DEDUCTIBLE: dict[str, object] = {"LocDed6All": 100, "LocDedType6All": 0, "LocDedCode6All": 0, "LocPeril": "WTC"}


def exposure(folder: Path, **changed: list[dict[str, object]]) -> dict[OedTable, Path]:
    """Two locations, a policy and a treaty; ``changed`` says for a table in what its rows differ from that."""
    files = {}
    for table, row in ROWS.items():
        changes = changed.get(table.value, [{}, SECOND] if table is LOC else [{}])
        rows = [row | change for change in changes]
        columns = list(dict.fromkeys(column for each in rows for column in each))
        lines = [",".join(columns), *(",".join(str(each.get(column, "")) for column in columns) for each in rows)]
        files[table] = folder / f"{table.value}.csv"
        files[table].write_text("\n".join(lines) + "\n")
    return files


def found(folder: Path, needs: Needs = ALL_LOSSES, /, **changed: list[dict[str, object]]) -> list[Finding]:
    return validate(exposure(folder, **changed), needs=needs)


def test_nothing_is_found_where_everything_refers_to_something(tmp_path) -> None:
    assert found(tmp_path) == []
    tagged: list[dict[str, object]] = [{"CondTag": "C1"}, SECOND]
    assert found(tmp_path, location=tagged, account=[CONDITION]) == []


# What differs, and the findings: check, table, row, column, value.
FOUND: dict[str, tuple[dict[str, list[dict[str, object]]], list[tuple[str, OedTable, int | None, str, str | None]]]] = {
    "a building dropped": (
        {"location": [{}, {"BuildingTIV": 9000}, SECOND]},
        [("location-repeated", LOC, 3, "LocNumber", "1")],
    ),
    "buildings told apart by BuildingID only": (
        {"location": [{"BuildingID": "1"}, {"BuildingID": "2", "BuildingTIV": 9000}]},
        [("location-repeated", LOC, 3, "LocNumber", "1")],
    ),
    "a copied row": ({"location": [{}, {}]}, [("location-copied", LOC, 3, "LocNumber", "1")]),
    "rows for two perils": (
        {
            "location": [
                DEDUCTIBLE | {"LocPerilsCovered": "WTC;WSS"},
                DEDUCTIBLE | {"LocPerilsCovered": "WTC;WSS", "LocPeril": "WSS"},
            ],
            "account": [{"PolPerilsCovered": "WTC;WSS"}],
            "ri_info": [{"ReinsPeril": "WTC;WSS"}],
        },
        [],
    ),
    "rows for two perils with different values": (
        {
            "location": [
                DEDUCTIBLE | {"LocPerilsCovered": "WTC;WSS"},
                DEDUCTIBLE | {"LocPerilsCovered": "WTC;WSS", "LocPeril": "WSS", "BuildingTIV": 5000},
            ],
            "account": [{"PolPerilsCovered": "WTC;WSS"}],
            "ri_info": [{"ReinsPeril": "WTC;WSS"}],
        },
        [("location-values-differ", LOC, 3, "LocNumber", "1")],
    ),
    "the same number in another account": (
        {"location": [{}, {"AccNumber": "A2"}], "account": [{}, {"AccNumber": "A2"}]},
        [],
    ),
    "a CondTag that the account has not": (
        {"location": [{"CondTag": "C1"}], "account": [CONDITION | {"CondTag": "C01"}]},
        [("condtag-missing", LOC, 2, "CondTag", "C1"), ("condtag-unused", ACC, 2, "CondTag", "C01")],
    ),
    "a CondTag, and no such column in the accounts": (
        {"location": [{"CondTag": "C1"}]},
        [("condtag-missing", LOC, 2, "CondTag", "C1")],
    ),
    "a CondTag of another account": (
        {
            "location": [{"CondTag": "C1"}, {"AccNumber": "A2"}],
            "account": [{}, CONDITION | {"AccNumber": "A2"}],
        },
        [("condtag-missing", LOC, 2, "CondTag", "C1"), ("condtag-unused", ACC, 3, "CondTag", "C1")],
    ),
    "two conditions of one priority": (
        {
            "location": [{"CondTag": "C1"}, {"CondTag": "C2"}],
            "account": [CONDITION, CONDITION | {"CondTag": "C2", "CondNumber": "2"}],
        },
        [("condpriority-repeated", LOC, 3, "CondTag", "C2")],
    ),
    "a location without account": (
        {"location": [{}, {"AccNumber": "A2"}]},
        [("account-missing", LOC, 3, "AccNumber", "A2")],
    ),
    "an account without location": (
        {"account": [{}, {"AccNumber": "A2"}]},
        [("account-without-location", ACC, 3, "AccNumber", "A2")],
    ),
    "an account in another portfolio": (
        {"location": [{}, {"PortNumber": "2"}]},
        [("account-missing", LOC, 3, "AccNumber", "A1")],
    ),
    "a scope without treaty": (
        {"ri_scope": [{}, {"ReinsNumber": 2}]},
        [("scope-without-treaty", SCOPE, 3, "ReinsNumber", "2")],
    ),
    "a treaty without scope": (
        {"ri_info": [{}, {"ReinsNumber": 2}]},
        [("treaty-without-scope", INFO, 3, "ReinsNumber", "2")],
    ),
    "filters that match, but not together": (
        {
            "location": [{}, {"AccNumber": "A2", "LocNumber": "2"}],
            "account": [{}, {"AccNumber": "A2"}],
            "ri_scope": [{}, {"LocNumber": "2"}],
        },
        [("scope-without-match", SCOPE, 3, "LocNumber", "2")],
    ),
    "ids that differ in a zero": (
        {"location": [{"LocNumber": "01"}], "ri_scope": [{}, {"LocNumber": "1"}]},
        [("scope-without-match", SCOPE, 3, "LocNumber", "1")],
    ),
    "a treaty for another peril": (
        {"ri_info": [{"ReinsPeril": "QQ1"}]},
        [("treaty-perils-disjoint", INFO, 2, "ReinsPeril", "QQ1")],
    ),
    "a treaty for some of the perils": (
        {
            "ri_info": [{"ReinsPeril": "WTC"}],
            "location": [{"LocPerilsCovered": "WTC;QEQ"}],
            "account": [{"PolPerilsCovered": "AA1"}],
        },
        [("treaty-perils-fewer", INFO, 2, "ReinsPeril", "WTC")],
    ),
    "a treaty for the peril of another account": (
        {
            "location": [{}, {"AccNumber": "A2", "LocPerilsCovered": "QEQ"}],
            "account": [{}, {"AccNumber": "A2", "PolPerilsCovered": "QEQ"}],
            "ri_info": [{"ReinsPeril": "QEQ"}],
        },
        [("treaty-perils-disjoint", INFO, 2, "ReinsPeril", "QEQ")],
    ),
    "a policy for another peril": (
        {"account": [{"PolPerilsCovered": "QQ1"}]},
        [("policy-perils-disjoint", ACC, 2, "PolPerilsCovered", "QQ1")],
    ),
    "a policy for some of the perils": (
        {"location": [{"LocPerilsCovered": "WW1"}], "ri_info": [{"ReinsPeril": "WW1"}]},
        [("policy-perils-fewer", ACC, 2, "PolPerilsCovered", "WTC")],
    ),
    "a deductible for another peril": (
        {"location": [DEDUCTIBLE | {"LocPeril": "QQ1"}]},
        [("terms-for-other-peril", LOC, 2, "LocPeril", "QQ1")],
    ),
    "a policy deductible for another peril": (
        {"account": [{"PolPeril": "QQ1", "PolDed6All": 100, "PolDedType6All": 0, "PolDedCode6All": 0}]},
        [("terms-for-other-peril", ACC, 2, "PolPeril", "QQ1")],
    ),
    "a condition for another peril": (
        {"location": [{"CondTag": "C1"}], "account": [CONDITION | {"CondPeril": "QQ1"}]},
        [("terms-for-other-peril", ACC, 2, "CondPeril", "QQ1")],
    ),
    "no participation": (
        {"account": [{"LayerParticipation": 0}]},
        [("layer-share-zero", ACC, 2, "LayerParticipation", "0")],
    ),
    "a layer above all values": (
        {"account": [{"LayerAttachment": 3000}]},
        [("layer-above-value", ACC, 2, "LayerAttachment", "3000")],
    ),
    "a policy that expires before it begins": (
        {"account": [{"PolInceptionDate": "2024-01-01", "PolExpiryDate": "2023-01-01"}]},
        [("dates-inverted", ACC, 2, "PolExpiryDate", "2023-01-01")],
    ),
    "a treaty that expires before it begins": (
        {"ri_info": [{"ReinsInceptionDate": "2024-01-01", "ReinsExpiryDate": "2023-01-01"}]},
        [("dates-inverted", INFO, 2, "ReinsExpiryDate", "2023-01-01")],
    ),
    "risk attaching without dates": (
        {"ri_info": [{"AttachmentBasis": "RA", "ReinsInceptionDate": "", "ReinsExpiryDate": "2024-12-31"}]},
        [("dates-needed", INFO, 2, "ReinsInceptionDate", None)],
    ),
    "risk attaching, and policies without date": (
        {"ri_info": [{"AttachmentBasis": "RA", "ReinsInceptionDate": "2024-01-01", "ReinsExpiryDate": "2024-12-31"}]},
        [("dates-needed", INFO, 2, "AttachmentBasis", "RA")],
    ),
    "risk attaching, and no policy begins": (
        {
            "account": [{"PolInceptionDate": "2022-01-01", "PolExpiryDate": "2023-01-01"}],
            "ri_info": [{"AttachmentBasis": "RA", "ReinsInceptionDate": "2024-01-01", "ReinsExpiryDate": "2024-12-31"}],
        },
        [("dates-without-policy", INFO, 2, "AttachmentBasis", "RA")],
    ),
    "a treaty that cedes nothing": (
        {"ri_info": [{"CededPercent": 0}]},
        [("treaty-share-zero", INFO, 2, "CededPercent", "0")],
    ),
    "a treaty that nobody took": (
        {"ri_info": [{"PlacedPercent": 0}]},
        [("treaty-share-zero", INFO, 2, "PlacedPercent", "0")],
    ),
    "a quota share without share": (
        {"ri_info": [{"CededPercent": ""}]},
        [("treaty-share-empty", INFO, 2, "CededPercent", None)],
    ),
    "a share in the scope of a quota share": (
        {"ri_scope": [{"CededPercent": 0.25}]},
        [("scope-share-ignored", SCOPE, 2, "CededPercent", "0.25")],
    ),
    "a share in the scope of a surplus": (
        {"ri_info": [{"ReinsType": "SS"}], "ri_scope": [{"CededPercent": 0.25, "LocNumber": "1"}]},
        [],
    ),
    "a surplus that cedes nothing": (
        {"ri_info": [{"ReinsType": "SS"}], "ri_scope": [{"CededPercent": 0, "LocNumber": "1"}]},
        [("treaty-share-zero", SCOPE, 2, "CededPercent", "0")],
    ),
    "a surplus that names no location": (
        {"ri_info": [{"ReinsType": "SS"}], "ri_scope": [{"CededPercent": 0.25}]},
        [("scope-risk-level", SCOPE, 2, "LocNumber", None)],
    ),
    "a facultative treaty on accounts that names a location": (
        {"ri_info": [{"ReinsType": "FAC", "RiskLevel": "ACC"}], "ri_scope": [{"LocNumber": "1"}]},
        [("scope-risk-level", SCOPE, 2, "LocNumber", "1")],
    ),
    "a per risk treaty on accounts that names a location": (
        {"ri_info": [{"ReinsType": "PR", "RiskLevel": "ACC", "RiskLimit": 100}], "ri_scope": [{"LocNumber": "1"}]},
        [("scope-below-risk", SCOPE, 2, "LocNumber", "1")],
    ),
    "groups that no location has": (
        {"ri_info": [{"RiskLevel": "LGR"}]},
        [("risk-without-group", INFO, 2, "RiskLevel", "LGR")],
    ),
    "a term that is not applied": (
        {"ri_info": [{"OccAttachment": 100}]},
        [("treaty-term-ignored", INFO, 2, "OccAttachment", "100")],
    ),
    "a treaty above all values": (
        {"ri_info": [{"ReinsType": "CXL", "RiskLevel": "SEL", "OccLimit": 100, "OccAttachment": 5000}]},
        [("treaty-above-value", INFO, 2, "OccAttachment", "5000")],
    ),
    "a per risk treaty above all risks": (
        {"ri_info": [{"ReinsType": "PR", "RiskLimit": 100, "RiskAttachment": 1500}]},
        [("treaty-above-value", INFO, 2, "RiskAttachment", "1500")],
    ),
    "an excess of loss without terms": (
        {"ri_info": [{"ReinsType": "CXL", "RiskLevel": "SEL"}]},
        [("treaty-cedes-all", INFO, 2, "ReinsType", "CXL")],
    ),
    "an excess of loss without a limit": (
        {"ri_info": [{"ReinsType": "CXL", "RiskLevel": "SEL", "OccAttachment": 100}]},
        [],
    ),
    "identifiers that a spreadsheet shortened": (
        {"location": [{"LocNumber": "1.00002E+12"}, {"LocNumber": "1e5"}, {"LocNumber": "2.50E11"}]},
        [("identifier-rewritten", LOC, row, "LocNumber", value) for row, value in ((2, "1.00002E+12"), (4, "2.50E11"))],
    ),
    "a policy with a fraction": (
        {"account": [{"PolNumber": "12.0"}]},
        [("identifier-rewritten", ACC, 2, "PolNumber", "12.0")],
    ),
    "identifiers that look like another": (
        {
            "location": [
                {},
                {"LocNumber": "1\u200b"},
                {"LocNumber": " 1"},
                {"LocNumber": "A\u030a"},
                {"LocNumber": "Å 2"},
            ]
        },
        [
            ("identifier-unseen", LOC, 3, "LocNumber", "1\u200b"),
            ("identifier-unseen", LOC, 4, "LocNumber", " 1"),
            ("identifier-unseen", LOC, 5, "LocNumber", "A\u030a"),
        ],
    ),
    "signs at which a run stops": (
        {"location": [{}, {"LocNumber": "#2"}], "account": [{"PolNumber": "P#1"}]},
        [("identifier-signs", LOC, 3, "LocNumber", "#2"), ("identifier-signs", ACC, 2, "PolNumber", "P#1")],
    ),
    "zeros kept by a spreadsheet": (
        {"location": [{}, {"LocNumber": "'007"}]},
        [("identifier-rewritten", LOC, 3, "LocNumber", "'007")],
    ),
    "an empty cell as text": (
        {"location": [{}, {"LocNumber": "None"}]},
        [("identifier-rewritten", LOC, 3, "LocNumber", "None")],
    ),
    "a type that Oasis LMF does not know": (
        {"ri_info": [{"ReinsType": "AXL", "RiskLevel": "SEL"}]},
        [("treaty-type", INFO, 2, "ReinsType", "AXL")],
    ),
    "a treaty twice": ({"ri_info": [{}, {}]}, [("treaty-repeated", INFO, 3, "ReinsNumber", "1")]),
    "layers of a treaty": ({"ri_info": [{}, {"ReinsLayerNumber": 2}]}, []),
    "a scope twice": ({"ri_scope": [{}, {}]}, [("scope-copied", SCOPE, 3, "ReinsNumber", "1")]),
    "a facultative scope twice": (
        {"ri_info": [{"ReinsType": "FAC"}], "ri_scope": [{"LocNumber": "1"}, {"LocNumber": "1"}]},
        [("scope-repeated", SCOPE, 3, "ReinsNumber", "1")],
    ),
    "two shares of a surplus": (
        {
            "ri_info": [{"ReinsType": "SS"}],
            "ri_scope": [{"LocNumber": "1", "CededPercent": 0.3}, {"LocNumber": "1", "CededPercent": 0.2}],
        },
        [("scope-repeated", SCOPE, 3, "CededPercent", "0.2")],
    ),
    "a policy twice": ({"account": [{}, {}]}, [("policy-copied", ACC, 3, "PolNumber", "P1")]),
    "a layer twice": (
        {"account": [{}, {"LayerLimit": 200}]},
        [("policy-repeated", ACC, 3, "PolNumber", "P1")],
    ),
    "two layers": ({"account": [{}, {"LayerNumber": 2, "LayerAttachment": 1000}]}, []),
    "policies without terms": (
        {"account": [{"LayerLimit": 0}, {"LayerLimit": 0, "PolNumber": "P2"}]},
        [("policies-without-terms", ACC, 3, "PolNumber", "P2")],
    ),
    "a gap in the priorities": (
        {"ri_info": [{}, {"ReinsNumber": 2, "InuringPriority": 4}], "ri_scope": [{}, {"ReinsNumber": 2}]},
        [("inuring-gap", INFO, None, "InuringPriority", None)],
    ),
    "two risk levels in one priority": (
        {"ri_info": [{}, {"ReinsNumber": 2, "RiskLevel": "ACC"}], "ri_scope": [{}, {"ReinsNumber": 2}]},
        [("inuring-levels", INFO, None, "RiskLevel", None)],
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_leads_nowhere_is_found_with_its_table_row_column_and_value(tmp_path, case) -> None:
    changed, expected = FOUND[case]
    findings = found(tmp_path, **changed)
    told = [(finding.check, finding.table, finding.row, finding.column, finding.value) for finding in findings]
    assert told == expected, "\n".join(map(str, findings))


@pytest.mark.parametrize(
    ("column", "elsewhere"),
    [
        ("PortNumber", {}),
        ("AccNumber", {}),
        ("PolNumber", {}),
        ("LocNumber", {}),
        ("LocGroup", {"location": [{"LocGroup": "G1"}, SECOND]}),
        ("ReinsTag", {"location": [{"ReinsTag": "G1"}, SECOND]}),
        ("CountryCode", {}),
        ("CedantName", {"account": [{"CedantName": "G1"}]}),
        ("ProducerName", {"account": [{"ProducerName": "G1"}]}),
        ("LOB", {"account": [{"LOB": "G1"}]}),
        ("LOB", {}),  # a column that the accounts do not have
    ],
)
def test_every_filter_of_a_scope_is_looked_up(tmp_path, column, elsewhere) -> None:
    value = "FR" if column == "CountryCode" else "X9"
    treaty, row = found(tmp_path, **{"ri_scope": [{column: value}], **elsewhere})
    assert (treaty.check, treaty.value, treaty.severity) == ("treaty-without-match", "1", Severity.WARNING)
    assert (row.check, row.row, row.column, row.value) == ("scope-without-match", 2, column, value)
    assert row.message.startswith(f"{value}: no ")
    assert row.message.endswith("so this row of the scope applies to nothing")
    if elsewhere:
        assert found(tmp_path, **{"ri_scope": [{column: "G1"}], **elsewhere}) == []


def test_a_filter_that_oasis_takes_for_empty_is_an_error(tmp_path) -> None:
    """Its row would apply to all locations, not to none."""
    files = exposure(tmp_path)
    rows = {"ReinsNumber": [1], "PortNumber": ["1"], "AccNumber": ["A1"], "LocNumber": ["nan"], "OEDVersion": ["4.0.0"]}
    pq.write_table(pa.table(rows), tmp_path / "ri_scope.parquet")
    findings = validate(files | {SCOPE: tmp_path / "ri_scope.parquet"}, needs=ALL_LOSSES)
    [error] = [finding for finding in findings if finding.severity is Severity.ERROR]
    assert (error.check, error.column, error.value) == ("identifier-read-as-empty", "LocNumber", "nan")


def test_blanks_at_the_end_of_an_identifier_are_shown(tmp_path) -> None:
    findings = found(tmp_path, location=[{}, SECOND | {"AccNumber": "A1 "}])
    unseen, missing = (finding.message for finding in findings if finding.table is LOC)
    assert missing.startswith("'A1 ': the account file has no such account")
    assert unseen.startswith("'A1 ': has a blank at an end")
    assert unseen.endswith("is not equal to A1")


def test_a_treaty_with_one_scope_that_matches_is_not_said_to_cede_nothing(tmp_path) -> None:
    findings = found(tmp_path, ri_scope=[{"LocNumber": "1"}, {"LocNumber": "9"}])
    assert [finding.check for finding in findings] == ["scope-without-match"]


def test_errors_of_reinsurance_are_warnings_where_nobody_asks_for_its_losses(tmp_path) -> None:
    changed: dict[str, list[dict[str, object]]] = {"ri_info": [{"ReinsPeril": "QQ1"}]}
    [of_all] = found(tmp_path, **changed)
    [of_insured] = found(tmp_path, needs_of_perspectives(["IL"]), **changed)
    assert (of_all.severity, of_insured.severity) == (Severity.ERROR, Severity.WARNING)
    [stops] = found(tmp_path, needs_of_perspectives(["GUL"]), ri_info=[{}, {"ReinsNumber": 2}])
    assert stops.severity is Severity.ERROR


def test_a_finding_names_the_file_and_the_line_that_the_user_knows(tmp_path) -> None:
    files = exposure(tmp_path, location=[{}, SECOND | {"AccNumber": "A2"}])
    header, first, second = files[LOC].read_text().splitlines()
    (tmp_path / "homes.csv").write_text("\n".join([header, first, "", "", second]) + "\n")
    extract(FileSource(tmp_path / "homes.csv"), LOC, tmp_path / "location.parquet")
    [finding] = validate(files | {LOC: tmp_path / "location.parquet"}, needs=ALL_LOSSES)
    assert str(finding).startswith("error: homes.csv, line 5 (portfolio 1, account A2, location 2), AccNumber: A2: ")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("duplicate-locnumber", ["location-repeated"]),
        ("condtag-reference", ["condtag-missing", "condtag-unused"]),
        ("reinsurance-scope-without-match", ["treaty-without-match", "scope-without-match"]),
    ],
)
def test_small_inputs_that_went_wrong_are_found(case, expected) -> None:
    files = {table: CASES / case / f"{table.value}.csv" for table in OedTable}
    findings = validate({table: file for table, file in files.items() if file.is_file()})
    assert [finding.check for finding in findings if not finding.check.startswith("coordinates")] == expected


def test_a_repeated_location_is_said_to_be_dropped_with_its_value() -> None:
    folder = CASES / "duplicate-locnumber"
    [finding] = validate({LOC: folder / "location.csv", ACC: folder / "account.csv"})
    assert "Oasis LMF keeps that row and drops this one: its insured value of 9,500 has no losses" in finding.message
    assert finding.severity is Severity.ERROR


def test_a_portfolio_with_errors_is_refused_and_the_others_are_not(tmp_path) -> None:
    good = PortfolioFindings(tuple(found(tmp_path)))
    bad = PortfolioFindings(tuple(found(tmp_path, location=[{}, {"AccNumber": "A2"}])))
    unreadable = PortfolioFindings(unreadable="location.csv, line 7: 3 cells")
    refused = refused_portfolios({"homes": good, "shops": bad, "ships": unreadable})
    assert list(refused) == ["shops", "ships"]
    assert refused["shops"].startswith("error: location.csv, line 3")
    assert refused["ships"] == "location.csv, line 7: 3 cells"
    with pytest.raises(ExposureError, match=r"shops: error: location\.csv, line 3"):
        refused_portfolios({"homes": good, "shops": bad}, strict=True)
    with pytest.raises(ExposureError, match=r"ships: location\.csv, line 7"):
        refused_portfolios({"ships": unreadable})
    assert refused_portfolios({"homes": good}, strict=True) == {}


def test_the_documentation_lists_every_check_with_its_severity_and_consequence() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (error|warning|info)(.*?) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE
    )
    of_losses = {None: "", "IL": " (IL, RI)", "RI": " (RI)"}
    assert rows == [
        (check.name, check.severity.value, of_losses[check.perspective], check.finds, check.consequence)
        for check in CHECKS
    ]


def test_names_of_checks_are_unique() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
