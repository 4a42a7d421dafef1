"""Every check of an exposure: what it finds, how bad that is, and the consequence.

This is the only list of checks. ``docs/exposure_checks.md`` shows it, and a finding names its check. The statements
about Oasis LMF come from version 2.5.8: each consequence was seen in a deterministic run of a small portfolio.
"""

from dataclasses import dataclass
from enum import StrEnum

from irp_pipeline.vocabulary import Perspective


class Severity(StrEnum):
    """How bad a finding is.

    An error stops a model run, or makes its figures wrong. A warning is probably a mistake, and a person should look
    at it. An info is good to know.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: a short name, which stays the same from release to release.
        severity: how bad it is.
        finds: what it finds, as a part of a sentence.
        consequence: what happens to the losses, in a sentence.
        perspective: ``IL`` or ``RI`` if only these losses are wrong. An error is a warning if nobody asks for them.
    """

    name: str
    severity: Severity
    finds: str
    consequence: str
    perspective: Perspective | None = None


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

# Tables and columns.
TABLE_MISSING = Check("table-missing", _E, "a table that the analyses need is missing", "The job fails.")
TABLE_UNKNOWN_NEED = Check(
    "location-table-missing",
    _W,
    "there is no location table, and it is not known whether the model needs one",
    "A model that uses accounts alone (such as cyber) runs; any other model fails.",
)
TABLE_EMPTY = Check(
    "table-empty", _E, "a table without records", "The job fails, or the terms of the table are missing."
)
COLUMN_MISSING = Check("column-missing", _E, "a column that OED requires is missing", "Oasis LMF refuses the exposure.")
VALUE_MISSING = Check(
    "value-missing", _E, "an empty cell where OED requires a value", "Oasis LMF refuses the exposure."
)
VALUE_EXPECTED = Check(
    "value-expected", _E, "an empty cell that another cell of the row requires", "Oasis LMF refuses the exposure."
)
VALUE_NOT_ALLOWED = Check(
    "value-not-allowed", _E, "a value outside the range of OED", "Oasis LMF refuses the exposure."
)
UNKNOWN_COLUMN = Check("unknown-column", _E, "a column that OED does not know", "Oasis LMF refuses the exposure.")
UNKNOWN_PERIL = Check("unknown-peril", _E, "a peril code that OED does not know", "Oasis LMF refuses the exposure.")
UNKNOWN_CODE = Check(
    "unknown-code",
    _E,
    "an occupancy, construction, country or area code that OED does not know",
    "Oasis LMF refuses the exposure.",
)
BAD_DATE = Check("bad-date", _E, "a date that is not written as YYYY-MM-DD", "Oasis LMF refuses the exposure.")
VERSION = Check(
    "oed-version",
    _E,
    "an OED version that is unknown, or differs from that of the other records",
    "Oasis LMF refuses the exposure.",
)
STANDARD = Check("oed-rule", _E, "another rule of OED is broken", "Oasis LMF refuses the exposure.")
BUILDING_TIV_MISSING = Check("building-tiv-missing", _E, "there is no column BuildingTIV", "Oasis LMF stops.")
TIV_COLUMN_MISSING = Check(
    "tiv-column-missing",
    _W,
    "there is no column OtherTIV, ContentsTIV or BITIV",
    "A model that covers this coverage stops.",
)
NOTHING_INSURED = Check("nothing-insured", _W, "a location without any insured value", "The location can have no loss.")
LOCATION_COLUMN_NEEDED = Check(
    "model-column-missing",
    _E,
    "a column of the location table that the model uses to place locations is missing, or empty in a row",
    "The model stops, or does not find the location.",
)
LOCATION_COLUMN_MAYBE = Check(
    "coordinates-missing",
    _W,
    "there are no coordinates, and it is not known whether the model needs them",
    "A model that uses coordinates does not find the location.",
)
NOT_GEOCODED = Check(
    "not-geocoded",
    _W,
    "latitude and longitude are both 0",
    "The location is in the Atlantic, where no model covers it.",
)
UNKNOWN_CURRENCY = Check(
    "unknown-currency",
    _E,
    "a code that is not a currency of ISO 4217",
    "Oasis LMF continues, and adds up amounts without conversion.",
)
FORMER_CURRENCY = Check("former-currency", _W, "a currency that no longer exists", "Amounts may be in old money.")
OTHER_CURRENCY = Check(
    "other-currency",
    _E,
    "an amount in a currency other than that of the losses, and the model does not convert",
    "Amounts of different currencies are added up without conversion.",
)

# Rows that describe the same thing.
IDENTIFIER_READ_AS_EMPTY = Check(
    "identifier-read-as-empty",
    _E,
    "an identifier that Oasis LMF takes for an empty cell, such as nan, NULL, N/A, in a source that is not a CSV file",
    "Oasis LMF refuses the exposure, or the row of a scope or a condition applies to more than it names.",
)
IDENTIFIER_REWRITTEN = Check(
    "identifier-rewritten",
    _W,
    "an identifier that a program seems to have rewritten: shortened (1.00E+11), with a fraction (12.0), made from an "
    "empty cell (None), or in a notation that keeps zeros in a spreadsheet",
    "Rows that were different may have become equal, and references between the tables fail.",
)
IDENTIFIER_SIGNS = Check(
    "identifier-signs",
    _W,
    "an identifier with a comma or a number sign (#)",
    "Oasis LMF stops when a model runs: at a comma for insured losses, at # for all. Deterministic losses are right.",
)
IDENTIFIER_UNSEEN = Check(
    "identifier-unseen",
    _W,
    "an identifier with a blank at an end, or an invisible character",
    "It is not equal to one that looks the same: there are two locations or accounts, or a reference fails.",
)
LOCATION_REPEATED = Check(
    "location-repeated",
    _E,
    "a second row with the same PortNumber, AccNumber and LocNumber that describes another building",
    "Oasis LMF keeps the first row and drops the second: its insured value has no losses.",
)
LOCATION_VALUES_DIFFER = Check(
    "location-values-differ",
    _E,
    "the rows of a location (one for each LocPeril or CondTag) have different insured values",
    "Oasis LMF takes the values of the first row.",
)
LOCATION_COPIED = Check(
    "location-copied",
    _W,
    "a row of the location table occurs twice",
    "Oasis LMF drops the copy. The losses are right; sums over the rows of the table are not.",
)
ACCOUNT_REPEATED = Check(
    "policy-repeated",
    _E,
    "a second row for the same policy, layer and condition that has other terms",
    "The insured losses are wrong: Oasis LMF was seen to pay for both rows, and in another portfolio to pay nothing.",
    Perspective.IL,
)
ACCOUNT_COPIED = Check(
    "policy-copied", _W, "a row of the account table occurs twice", "Oasis LMF takes it once. The losses are right."
)
TREATY_REPEATED = Check(
    "treaty-repeated",
    _E,
    "a second row with the same ReinsNumber and ReinsLayerNumber",
    "Oasis LMF applies both: the treaty cedes twice.",
    Perspective.RI,
)
SCOPE_REPEATED = Check(
    "scope-repeated",
    _E,
    "a second row of the scope with the same filters: of a facultative treaty, or of a surplus share with a different "
    "CededPercent",
    "Oasis LMF cedes by both rows of a facultative treaty, and takes the last row of a surplus share.",
    Perspective.RI,
)
SCOPE_COPIED = Check(
    "scope-copied", _W, "a row of the scope occurs twice", "Oasis LMF takes it once. The losses are right."
)

# References between tables.
ACCOUNT_MISSING = Check(
    "account-missing", _E, "a location whose account is not in the account table", "Oasis LMF stops."
)
ACCOUNT_WITHOUT_LOCATION = Check(
    "account-without-location", _W, "an account that has no location", "Its policies pay nothing."
)
CONDTAG_MISSING = Check(
    "condtag-missing", _E, "a CondTag of a location that its account does not have", "Oasis LMF stops."
)
CONDTAG_UNUSED = Check(
    "condtag-unused", _W, "a CondTag of an account that none of its locations has", "The condition never applies."
)
CONDTAG_NUMBER = Check(
    "condtag-without-number",
    _E,
    "a CondTag without CondNumber or a CondNumber without CondTag in the account table",
    "Oasis LMF refuses the exposure if there are terms; otherwise it ignores the condition.",
)
CONDPRIORITY_REPEATED = Check(
    "condpriority-repeated", _E, "a location with two CondTags of the same CondPriority", "Oasis LMF stops."
)
SCOPE_WITHOUT_TREATY = Check(
    "scope-without-treaty",
    _E,
    "a row of the scope whose ReinsNumber is not in the reinsurance info table",
    "Oasis LMF ignores the row: it cedes nothing.",
    Perspective.RI,
)
TREATY_WITHOUT_SCOPE = Check(
    "treaty-without-scope",
    _E,
    "a treaty whose ReinsNumber is not in the scope",
    "The treaty cedes nothing. Oasis LMF stops if no other treaty has the same InuringPriority and RiskLevel.",
)
SCOPE_WITHOUT_MATCH = Check(
    "scope-without-match",
    _W,
    "a row of the scope whose filters match no location and policy (PortNumber, AccNumber, PolNumber, LocGroup, "
    "LocNumber, CedantName, ProducerName, LOB, CountryCode, ReinsTag)",
    "The row applies to nothing.",
)
TREATY_WITHOUT_MATCH = Check(
    "treaty-without-match", _W, "a treaty whose rows in the scope all match nothing", "The treaty cedes nothing."
)
SCOPE_RISK_LEVEL = Check(
    "scope-risk-level",
    _E,
    "a row of the scope of a facultative or surplus share treaty that does not name one risk of its RiskLevel: a "
    "column that it needs is empty, or one below that level is filled",
    "Oasis LMF stops.",
)
SCOPE_BELOW_RISK = Check(
    "scope-below-risk",
    _I,
    "a row of the scope that names something smaller than a risk of the RiskLevel",
    "The terms per risk apply only to the loss of that part.",
)
NO_LOCATION_GROUPS = Check(
    "risk-without-group",
    _W,
    "a treaty with RiskLevel LGR, and locations without LocGroup",
    "Oasis LMF takes all locations without LocGroup for one risk.",
)

# Perils.
POLICY_PERILS_DISJOINT = Check(
    "policy-perils-disjoint",
    _E,
    "a policy that covers none of the perils of its locations",
    "Oasis LMF does not look at PolPerilsCovered: the policy pays for all perils of its locations.",
    Perspective.IL,
)
POLICY_PERILS_FEWER = Check(
    "policy-perils-fewer",
    _W,
    "a policy that does not cover some of the perils of its locations",
    "Oasis LMF does not look at PolPerilsCovered: the policy also pays for these perils.",
)
TERMS_PERIL = Check(
    "terms-for-other-peril",
    _W,
    "terms (LocPeril, PolPeril, AccPeril, CondPeril) for a peril that the locations do not have",
    "These deductibles and limits never apply.",
)
TREATY_PERILS_DISJOINT = Check(
    "treaty-perils-disjoint",
    _E,
    "a treaty whose ReinsPeril has none of the perils of the locations that it applies to",
    "Oasis LMF does not look at ReinsPeril: the treaty cedes the losses of all perils.",
    Perspective.RI,
)
TREATY_PERILS_FEWER = Check(
    "treaty-perils-fewer",
    _W,
    "a treaty whose ReinsPeril leaves out some of the perils of the locations that it applies to",
    "Oasis LMF does not look at ReinsPeril: the treaty also cedes the losses of these perils.",
)

# Terms.
DATES_INVERTED = Check(
    "dates-inverted",
    _W,
    "an expiry date before the inception date",
    "Oasis LMF looks at dates only for treaties with AttachmentBasis RA, and such a treaty cedes nothing.",
)
DATES_NEEDED = Check(
    "dates-needed",
    _E,
    "a treaty with AttachmentBasis RA whose dates are missing, or a policy in its scope without an inception date",
    "Oasis LMF stops.",
)
DATES_WITHOUT_POLICY = Check(
    "dates-without-policy",
    _W,
    "a treaty with AttachmentBasis RA, but no policy of its scope begins in its period",
    "The treaty cedes nothing.",
)
POLICIES_WITHOUT_TERMS = Check(
    "policies-without-terms",
    _W,
    "an account with several policies or layers, none of which has a deductible, limit, attachment or participation",
    "Oasis LMF takes only the first one: losses count once, and treaties that name another policy cede nothing.",
)
LAYER_SHARE_ZERO = Check(
    "layer-share-zero",
    _W,
    "LayerParticipation is 0",
    "The layer pays nothing. If it has neither LayerLimit nor LayerAttachment, Oasis LMF ignores the 0: it pays all.",
)
LAYER_ABOVE_VALUE = Check(
    "layer-above-value",
    _W,
    "a layer that attaches at or above the insured value of all locations of its account",
    "The layer never pays.",
)
TREATY_SHARE_ZERO = Check(
    "treaty-share-zero",
    _W,
    "PlacedPercent is 0, or CededPercent is 0 where it counts (surplus share: in the scope, else in the info table)",
    "The treaty, or the row of a surplus share, cedes nothing.",
)
TREATY_SHARE_EMPTY = Check(
    "treaty-share-empty",
    _W,
    "CededPercent of a quota share or surplus share is empty where it counts",
    "OED reads that as 1: everything is ceded.",
)
SCOPE_SHARE_IGNORED = Check(
    "scope-share-ignored",
    _W,
    "CededPercent in the scope differs from that of the info table, and the treaty is not a surplus share",
    "Oasis LMF uses the one of the info table.",
)
TREATY_TERM_IGNORED = Check(
    "treaty-term-ignored",
    _W,
    "a term of the info table that Oasis LMF does not apply to this ReinsType",
    "Losses are computed without the term.",
)
TREATY_CEDES_ALL = Check(
    "treaty-cedes-all",
    _W,
    "an excess of loss (CXL, PR) that has neither a limit nor an attachment",
    "0 and empty both mean that there is none: the treaty cedes the whole loss, up to CededPercent and PlacedPercent.",
)
TREATY_ABOVE_VALUE = Check(
    "treaty-above-value",
    _W,
    "a treaty that attaches at or above the insured value of the risks that it applies to",
    "The treaty cedes nothing.",
)
TREATY_TYPE = Check("treaty-type", _E, "a ReinsType or RiskLevel that Oasis LMF does not know", "Oasis LMF stops.")
INURING_GAP = Check(
    "inuring-gap",
    _I,
    "there is a gap between two InuringPriorities",
    "None: the treaties still apply in their order.",
)
INURING_LEVELS = Check(
    "inuring-levels",
    _W,
    "treaties of the same InuringPriority have different RiskLevels",
    "Oasis LMF does not apply them side by side, but one after the other (LOC, LGR, POL, ACC, SEL), each to what the "
    "previous one leaves.",
)

CHECKS = tuple(check for check in list(globals().values()) if isinstance(check, Check))
"""All checks, in the order of this module."""
