"""Parsing a SQL statement just enough to pass it to the driver as its author meant it.

The driver reads every ``%s`` as a value and fails at any other ``%``. This module splits a statement into plain SQL and
quoted text (literals, quoted names, comments): in plain SQL ``%s`` is a placeholder, in quoted text it is text, and
every other ``%`` is a plain ``%``.

Lexical rules: https://www.postgresql.org/docs/current/sql-syntax-lexical.html, with
``standard_conforming_strings`` on. No database and no values here.
"""

import functools
import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n\r]*)                       # line comment
    | (?P<block>/\*)                              # block comment; these nest, so the end is found by hand
    | (?<![\w$])[eE]'(?:[^'\\]++|\\.|'')*+'       # escape string
      (?:\s*?[\n\r]\s*'(?:[^'\\]++|\\.|'')*+')*    # … which goes on in the next line
    | '(?:[^']++|'')*+'                           # string, also the rest of U&'', B'', X''
    | "(?:[^"]++|"")*+"                           # quoted name
    | (?<![\w$])(?P<tag>\$(?:[^\W\d]\w*)?\$)(?:.*?)(?P=tag)   # dollar-quoted string
    | (?P<open>['"])                              # a quote that never ends: text up to the end of the statement
    | (?P<placeholder>%s)
    | (?P<percent>%)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")
_TRANSACTION_CONTROL = re.compile(
    r"\s*(?:begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|prepare\s+transaction)\b"
)
_SAVEPOINT = re.compile(r"\s*(?:savepoint|release|rollback\s+(?:work\s+|transaction\s+)?to)\b")
_DISCARD = re.compile(r"\s*discard\b")
_SQL_BODY = re.compile(r"\bbegin\s+atomic\b")  # of a function; its END does not end a transaction
_SESSION_COMMAND = re.compile(r"\s*(?:set(?!\s+(?:local|constraints|transaction)\b)|prepare|listen|load|declare)\b")
_PROCEDURE = re.compile(r"\s*(?:do|call)\b")
_SET_CONFIG = re.compile(r"\bset_config\s*\(")
_SET_CONFIG_LOCAL = re.compile(r"\bset_config\s*\([^()]*,\s*true\s*\)")
_TEMPORARY = re.compile(
    r"\bcreate\s+(?:or\s+replace\s+)?(?:(?:global|local)\s+)?temp(?:orary)?\b"
    # Not a table named temp, which is legal, as in INSERT INTO temp VALUES.
    r"|\binto\s+(?:(?:global|local)\s+)?temp(?:orary)?\s+(?!values\b|select\b|default\b|as\b|overriding\b|with\b|using\b)[\w'\"]"
    r"|\b(?:table|view|sequence|into)\s+(?:if\s+not\s+exists\s+)?pg_temp\s*\."
)
_DROPPED_AT_COMMIT = re.compile(r"\bon\s+commit\s+drop\b")
# A large statement is parsed for its commands only if it contains one of these.
_WORTH_READING = re.compile(
    r"(?:^|;)(?:\s|--[^\n]*\n|/\*.*?\*/)*+"
    r"(?:begin|start|commit|end|rollback|abort|savepoint|release|prepare|set|listen|load|declare|do|call)\b"
    r"|\b(?:temp|temporary|pg_temp|set_config)\b",
    re.IGNORECASE | re.DOTALL,
)
_RETURNING = re.compile(r"\breturning\b")
_INSERT_COLUMNS = re.compile(
    r"\binsert\s+into\s+(?:[^\s(]+)(?:\s+as\s+\S+)?\s*\(([^()]*)\)\s*(?:overriding\s+\w+\s+value\s*)?values\s*\(",
    re.IGNORECASE,
)
_INSERT = re.compile(r"\bvalues\s*(\()", re.IGNORECASE)

_LONGEST_CACHED = 4000


@dataclass(frozen=True)
class Statement:
    """A statement as the driver wants it.

    Attributes:
        source: the statement as written.
        text: the same with every ``%`` that is not a placeholder doubled.
        bare: ``source`` with comments blanked and quoted text replaced by quotes, so that only SQL is left to
            search; as long as ``source``, so that positions agree.
        placeholders: how many values it takes.
        returns: whether it has a RETURNING clause; that of a CTE does not count.
        controls_transaction: whether it begins or ends a transaction, or sets or uses a savepoint.
        is_savepoint: whether it is a single command that sets or uses a savepoint.
        is_discard: whether it is a single command that resets the session.
        is_one_command: whether it is a single command.
        sets_session: whether it leaves something in its session: a setting, a prepared statement, a cursor. What
            functions do that it calls is not known.
        changes_session: whether ``sets_session`` holds, or it runs a procedure that may change the session.
        leaves_temporary: whether it makes a temporary table, view or sequence that outlives its transaction.
        makes_temporary: whether it makes any temporary table, view or sequence.
    """

    source: str
    text: str
    bare: str
    placeholders: int
    returns: bool
    controls_transaction: bool
    is_savepoint: bool
    is_discard: bool
    is_one_command: bool
    sets_session: bool
    changes_session: bool
    leaves_temporary: bool
    makes_temporary: bool


@dataclass(frozen=True)
class RowTemplate:
    """The parts of an ``INSERT … VALUES (…)`` with one row.

    Attributes:
        head: everything up to and including VALUES, to be sent unchanged.
        row: the parenthesised row with its placeholders, percent signs doubled.
        tail: the part after the row (ON CONFLICT, RETURNING), to be sent unchanged.
        columns: the column that each placeholder fills; empty when the statement names no columns.
    """

    head: str
    row: str
    tail: str
    columns: tuple[str, ...]


def parse(source: str) -> Statement:
    """Parse a statement.

    Args:
        source: one SQL statement, or several separated by semicolons.

    Returns:
        What the driver needs to know about it. Raises no error: invalid SQL is left to the server.
    """
    # A statement with megabytes of literals is not cached: it will hardly be used again.
    return _parse_cached(source) if len(source) <= _LONGEST_CACHED else _parse(source)


def _parse(source: str) -> Statement:
    text: list[str] = []
    bare: list[str] = []
    placeholders = 0
    position = 0
    while match := _TOKEN.search(source, position):
        plain = source[position : match.start()]
        text.append(plain)
        bare.append(plain)
        end = match.end()
        if match["placeholder"]:
            placeholders += 1
            text.append("%s")
            bare.append("%s")
        elif match["percent"]:
            text.append("%%")
            bare.append("%")
        else:
            if match["block"]:
                end = _end_of_block_comment(source, end)
            elif match["open"]:
                end = len(source)
            quoted = source[match.start() : end]
            text.append(quoted.replace("%", "%%"))
            bare.append((" " if match["comment"] or match["block"] else "'") * len(quoted))
        position = end
    text.append(source[position:])
    bare.append(source[position:])
    bare_text = "".join(bare)
    folded = bare_text.lower()
    commands = [command for command in folded.split(";") if command.strip()]
    has_sql_body = _SQL_BODY.search(folded) is not None
    temporary = len(_TEMPORARY.findall(folded))
    sets_session = any(_SESSION_COMMAND.match(command) for command in commands) or (
        len(_SET_CONFIG.findall(folded)) > len(_SET_CONFIG_LOCAL.findall(folded))
    )
    return Statement(
        source=source,
        text="".join(text),
        bare=bare_text,
        placeholders=placeholders,
        returns=any(_depth(folded, match.start()) == 0 for match in _RETURNING.finditer(folded)),
        controls_transaction=any(
            _TRANSACTION_CONTROL.match(command) and not (has_sql_body and command.split()[0] == "end")
            for command in commands
        ),
        is_savepoint=len(commands) == 1 and _SAVEPOINT.match(folded) is not None,
        is_discard=len(commands) == 1 and _DISCARD.match(folded) is not None,
        is_one_command=len(commands) <= 1,
        sets_session=sets_session,
        changes_session=sets_session or any(_PROCEDURE.match(command) for command in commands),
        leaves_temporary=temporary > len(_DROPPED_AT_COMMIT.findall(folded)),
        makes_temporary=temporary > 0,
    )


_parse_cached = functools.lru_cache(maxsize=1024)(_parse)


_NOTHING_SPECIAL = _parse("SELECT 1")


def read_commands(source: str) -> Statement:
    """Parse a statement for its commands only, which is fast even for a large statement.

    Args:
        source: one SQL statement, or several separated by semicolons.

    Returns:
        What it does to the transaction and the session; the other attributes have no meaning.
    """
    if len(source) <= _LONGEST_CACHED or _WORTH_READING.search(source):
        return parse(source)
    return _NOTHING_SPECIAL


def quote_identifier(name: str) -> str:
    """Return ``name`` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def with_returned_id(source: str) -> Statement:
    """Return the statement with ``RETURNING id`` at its end, unless it already has a RETURNING clause."""
    statement = parse(source)
    if statement.returns:
        return statement
    end = len(statement.bare.rstrip("; \t\r\n\f\v"))
    # A trailing comment is blank in `bare`. Cutting there drops it; otherwise it would contain the addition.
    return parse(source[:end] + " RETURNING id")


@functools.lru_cache(maxsize=256)
def row_template(source: str) -> RowTemplate | None:
    """Split an ``INSERT … VALUES (…)`` into its parts, so that one statement can insert many rows.

    Args:
        source: an INSERT with exactly one row, which contains every placeholder.

    Returns:
        Its parts, with a tail that returns ids; or None if the statement does not have that form.
    """
    statement = with_returned_id(source)
    bare = statement.bare
    start = _INSERT.search(bare)
    if start is None:
        return None
    row_start = start.start(1)
    row_end = _closing_parenthesis(bare, row_start)
    if row_end is None or bare[row_start:row_end].count("%s") != statement.placeholders:
        return None
    if bare[row_end:].lstrip().startswith(","):
        return None
    return RowTemplate(
        head=statement.source[:row_start],
        row=parse(statement.source[row_start:row_end]).text,
        tail=statement.source[row_end:],
        columns=_placeholder_columns(statement, row_start, row_end),
    )


def _placeholder_columns(statement: Statement, row_start: int, row_end: int) -> tuple[str, ...]:
    listed = _INSERT_COLUMNS.search(statement.bare)
    if listed is None:
        return ()
    names = [_name_within(statement, start, end) for start, end in _items(statement.bare, *listed.span(1))]
    names = [name[1:-1].replace('""', '"') if name.startswith('"') else name.lower() for name in names]
    columns: list[str] = []
    for name, (start, end) in zip(names, _items(statement.bare, row_start + 1, row_end - 1), strict=False):
        columns.extend([name] * statement.bare[start:end].count("%s"))
    return tuple(columns)


def _name_within(statement: Statement, start: int, end: int) -> str:
    """Return the name in a span of the column list, without the spaces and comments around it."""
    bare = statement.bare[start:end]
    return statement.source[start + len(bare) - len(bare.lstrip()) : start + len(bare.rstrip())]


def _depth(bare: str, position: int) -> int:
    """Return how many parentheses are open at a position."""
    return bare.count("(", 0, position) - bare.count(")", 0, position)


def _items(bare: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the spans between the top-level commas of ``bare[start:end]``."""
    spans = []
    depth = 0
    begun = start
    for position in range(start, end):
        character = bare[position]
        if character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == "," and depth == 0:
            spans.append((begun, position))
            begun = position + 1
    spans.append((begun, end))
    return spans


def _closing_parenthesis(bare: str, opened: int) -> int | None:
    """Return the position after the parenthesis that closes the one at ``opened``."""
    depth = 0
    for position in range(opened, len(bare)):
        if bare[position] == "(":
            depth += 1
        elif bare[position] == ")":
            depth -= 1
            if depth == 0:
                return position + 1
    return None


def _end_of_block_comment(source: str, position: int) -> int:
    depth = 1
    while depth:
        edge = _BLOCK_EDGE.search(source, position)
        if edge is None:
            return len(source)
        depth += 1 if edge.group() == "/*" else -1
        position = edge.end()
    return position
