"""What is looked for in an exposure: every check, how bad it is, and what follows from what it finds.

This is the one list of checks. ``docs/exposure_checks.md`` shows it, and a finding names its check. What is said about
Oasis LMF was seen with version 2.5.8: each consequence was found by a deterministic run of a small portfolio.
"""

from dataclasses import dataclass
from enum import StrEnum

from irp_pipeline.vocabulary import Perspective


class Severity(StrEnum):
    """How bad a finding is.

    An error stops a model run, or makes its figures wrong. A warning is probably not meant, and a person should look
    at it. An info is good to know.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Check:
    """One thing that is looked for.

    Attributes:
        name: short name, which stays the same from release to release.
        severity: how bad it is.
        finds: what it finds, as a part of a sentence.
        consequence: what happens to the losses, in a sentence.
        perspective: IL or RI if only these losses suffer. An error is a warning where nobody asks for them.
    """

    name: str
    severity: Severity
    finds: str
    consequence: str
    perspective: Perspective | None = None


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

# Tables and columns.
TABLE_MISSING = Check("table-missing", _E, "a table that the analyses need is not there", "The job fails.")
TABLE_UNKNOWN_NEED = Check(
    "location-table-missing",
    _W,
    "there is no location table, and nothing tells whether the model does without",
    "A model of accounts alone (such as cyber) runs, any other fails.",
)
TABLE_EMPTY = Check(
    "table-empty", _E, "a table without a record", "The job fails, or the terms of the table are missing."
)
COLUMN_MISSING = Check(
    "column-missing", _E, "a column that OED requires is not there", "Oasis LMF refuses the exposure."
)
VALUE_MISSING = Check(
    "value-missing", _E, "an empty cell where OED requires a value", "Oasis LMF refuses the exposure."
)
VALUE_EXPECTED = Check(
    "value-expected", _E, "an empty cell that another column of the row asks for", "Oasis LMF refuses the exposure."
)
VALUE_NOT_ALLOWED = Check(
    "value-not-allowed", _E, "a value outside of the range of OED", "Oasis LMF refuses the exposure."
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
    "an OED version that is unknown, or not that of the other records",
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
    "a column of the location table that the model places locations by is not there, or empty in a row",
    "The model stops, or does not find the location.",
)
LOCATION_COLUMN_MAYBE = Check(
    "coordinates-missing",
    _W,
    "there are no coordinates, and nothing tells whether the model does without",
    "A model that goes by coordinates does not find the location.",
)
NOT_GEOCODED = Check(
    "not-geocoded",
    _W,
    "latitude and longitude are both 0",
    "The location lies in the Atlantic, where no model covers it.",
)
UNKNOWN_CURRENCY = Check(
    "unknown-currency",
    _E,
    "a code that is no currency of ISO 4217",
    "Oasis LMF runs on, and adds amounts up as they are.",
)
FORMER_CURRENCY = Check("former-currency", _W, "a currency that was given up", "Amounts may be in old money.")
OTHER_CURRENCY = Check(
    "other-currency",
    _E,
    "an amount in another currency than the losses, and the model does not convert",
    "Amounts of different currencies are added up as they are.",
)

# Rows that describe the same thing.
IDENTIFIER_READ_AS_EMPTY = Check(
    "identifier-read-as-empty",
    _E,
    "an identifier that Oasis LMF takes for an empty cell, such as nan, NULL, N/A, in a source that is no CSV file",
    "Oasis LMF refuses the exposure, or the row of a scope or a condition applies to more than it names.",
)
IDENTIFIER_REWRITTEN = Check(
    "identifier-rewritten",
    _W,
    "an identifier that a program seems to have rewritten: shortened (1.00E+11), with a fraction (12.0), made of an "
    "empty cell (None), or with what keeps zeros in a spreadsheet",
    "Rows that were different may have become equal, and references between the tables fail.",
)
IDENTIFIER_SIGNS = Check(
    "identifier-signs",
    _W,
    "an identifier with a comma or a number sign (#)",
    "Oasis LMF stops when a model is run: at a comma for insured losses, at # for all. Deterministic losses are right.",
)
IDENTIFIER_UNSEEN = Check(
    "identifier-unseen",
    _W,
    "an identifier with a blank at an end, or a character that cannot be seen",
    "It is not equal to the one that looks the same: there are two locations or accounts, or a reference fails.",
)
LOCATION_REPEATED = Check(
    "location-repeated",
    _E,
    "a second row with the same PortNumber, AccNumber and LocNumber that tells of another building",
    "Oasis LMF keeps the first row and drops the other: its insured value has no losses.",
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
    "a row of the location table is there twice",
    "Oasis LMF drops the copy. The losses are right, sums over the rows of the table are not.",
)
ACCOUNT_REPEATED = Check(
    "policy-repeated",
    _E,
    "a second row for the same policy, layer and condition that has other terms",
    "The insured losses are wrong: Oasis LMF was seen to pay for both rows, and in another portfolio to pay nothing.",
    Perspective.IL,
)
ACCOUNT_COPIED = Check(
    "policy-copied", _W, "a row of the account table is there twice", "Oasis LMF takes it once. The losses are right."
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
    "a second row of the scope with the same filters: of a facultative treaty, or of a surplus share with another "
    "CededPercent",
    "Oasis LMF cedes both of a facultative treaty, and takes the last row of a surplus share.",
    Perspective.RI,
)
SCOPE_COPIED = Check(
    "scope-copied", _W, "a row of the scope is there twice", "Oasis LMF takes it once. The losses are right."
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
    "Oasis LMF refuses the exposure if there are terms, else it ignores the condition.",
)
CONDPRIORITY_REPEATED = Check(
    "condpriority-repeated", _E, "a location with two CondTags of the same CondPriority", "Oasis LMF stops."
)
SCOPE_WITHOUT_TREATY = Check(
    "scope-without-treaty",
    _E,
    "a row of the scope whose ReinsNumber is not in the reinsurance info table",
    "Oasis LMF ignores the row: nothing is ceded by it.",
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
    "treaty-without-match", _W, "a treaty none of whose rows in the scope matches anything", "The treaty cedes nothing."
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
    "The terms per risk apply to the loss of that part alone.",
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
    "Oasis LMF does not look at PolPerilsCovered: the policy pays for these perils, too.",
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
    "a treaty whose ReinsPeril is none of the perils of the locations that it applies to",
    "Oasis LMF does not look at ReinsPeril: the treaty cedes the losses of all perils.",
    Perspective.RI,
)
TREATY_PERILS_FEWER = Check(
    "treaty-perils-fewer",
    _W,
    "a treaty whose ReinsPeril leaves out some of the perils of the locations that it applies to",
    "Oasis LMF does not look at ReinsPeril: the treaty cedes the losses of these perils, too.",
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
    "a treaty with AttachmentBasis RA, and its dates or the inception date of a policy in its scope are missing",
    "Oasis LMF stops.",
)
DATES_WITHOUT_POLICY = Check(
    "dates-without-policy",
    _W,
    "a treaty with AttachmentBasis RA in whose period no policy of its scope begins",
    "The treaty cedes nothing.",
)
POLICIES_WITHOUT_TERMS = Check(
    "policies-without-terms",
    _W,
    "an account with several policies or layers, none of which has a deductible, limit, attachment or participation",
    "Oasis LMF takes the first one alone: losses count once, and treaties that name another policy cede nothing.",
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
    "CededPercent is 0 where it counts (in the scope for a surplus share, else in the info table), or PlacedPercent is",
    "The treaty, or the row of a surplus share, cedes nothing.",
)
TREATY_SHARE_EMPTY = Check(
    "treaty-share-empty",
    _W,
    "CededPercent of a quota share or surplus share is empty where it counts",
    "OED takes that as 1: all is ceded.",
)
SCOPE_SHARE_IGNORED = Check(
    "scope-share-ignored",
    _W,
    "CededPercent in the scope of a treaty that is no surplus share differs from that of the info table",
    "Oasis LMF takes the one of the info table.",
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
    "0 and empty mean that there is none: the treaty cedes the whole loss, as far as CededPercent and PlacedPercent "
    "let it.",
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
    "no treaty has an InuringPriority between two that there are",
    "None: the treaties apply in their order all the same.",
)
INURING_LEVELS = Check(
    "inuring-levels",
    _W,
    "treaties of the same InuringPriority have different RiskLevels",
    "Oasis LMF applies them one after the other (LOC, LGR, POL, ACC, SEL), each to what the one before leaves, and "
    "not side by side.",
)

CHECKS = tuple(check for check in list(globals().values()) if isinstance(check, Check))
"""All checks, in the order of this module."""
