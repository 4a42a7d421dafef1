"""Names of database tables as a workbook gives them: ``exposure.location``, ``[Book 2024].dbo.[my table]``.

A part in quotation marks is quoted for the database, whatever marks are used. Any other part consists of letters,
digits, ``_`` and ``$``, and is left as it is: the database reads its capitals as it does in any query.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import URL

_PART = re.compile(
    r"""(?P<plain>[^\W\d][\w$]*)|\[(?P<square>(?:[^\]]|\]\])+)\]|"(?P<double>(?:[^"]|"")+)"|`(?P<back>(?:[^`]|``)+)`"""
)
_CLOSING = {"square": "]", "double": '"', "back": "`"}
_MOST_PARTS = 3


def is_table_name(text: str) -> bool:
    """Whether a text is the name of a table, in up to three parts."""
    return _parts(text) is not None


def query_of_table(text: str, url: "URL") -> str:
    """Return the query for all rows of a table.

    Args:
        text: its name, for which :func:`is_table_name` is true.
        url: the database.
    """
    # The parameter style "named" does not double a per cent sign in a name.
    dialect = url.get_dialect()(paramstyle="named")  # type: ignore[call-arg] # every dialect takes it
    quote = dialect.identifier_preparer.quote_identifier
    parts = [name if is_plain else quote(name) for name, is_plain in _parts(text) or ()]
    return f"SELECT * FROM {'.'.join(parts)}"  # noqa: S608 - each part is a plain word, or quoted


def _parts(text: str) -> list[tuple[str, bool]] | None:
    """Return the parts of a name, and whether each is plain; None if the text is no name."""
    parts: list[tuple[str, bool]] = []
    position = 0
    while found := _PART.match(text, position):
        kind = str(found.lastgroup)
        closing = _CLOSING.get(kind, "")
        parts.append((found[kind].replace(closing * 2, closing) if closing else found[kind], not closing))
        position = found.end()
        if position == len(text):
            return parts if len(parts) <= _MOST_PARTS else None
        if text[position] != ".":
            return None
        position += 1
        if text[position : position + 1] == "." and len(parts) == 1:  # database..table of SQL Server
            parts.append(("", True))
            position += 1
    return None
