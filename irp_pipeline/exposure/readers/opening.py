"""Opening a source of exposure of any kind.

:mod:`~irp_pipeline.exposure.readers.files`, :mod:`~irp_pipeline.exposure.readers.postgres` and
:mod:`~irp_pipeline.exposure.readers.databases` read the sources.
"""

import re
from contextlib import AbstractContextManager

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.sources import FileSource, QuerySource, Reader, Source, source_url

_COMMENT = re.compile(r"--[^\n]*(\n|$)|/\*.*?\*/", re.DOTALL)
_QUERY_OPENINGS = ("select", "with", "values", "table")


def open_source(source: Source, table: OedTable) -> AbstractContextManager[Reader]:
    """Open a source for reading; leaving the context closes it.

    Raises:
        ExposureError: the file is missing or unreadable; the database is unknown or unreachable; the query is not a
            query, or the database refuses it.
    """
    from irp_pipeline.exposure.readers import databases, files, postgres
    from irp_pipeline.exposure.readers.csv_header import CsvOptions

    if isinstance(source, FileSource):
        options = CsvOptions(
            source.encoding or None, source.delimiter or None, source.decimal or None, source.stated_in
        )
        return files.open_file(source.path, options, table)
    url = source_url(source.database)
    query = _checked_query(source)
    if url.get_backend_name() == "postgresql":
        return postgres.open_query(source.database, url, query, table)
    return databases.open_query(source.database, url, query, table)


def _checked_query(source: QuerySource) -> str:
    """Return the query without the semicolon at its end."""
    query = source.query.strip().rstrip(";").rstrip()
    bare = _COMMENT.sub(" ", query).lstrip(" (\n\r\t").lower()
    if not bare.startswith(_QUERY_OPENINGS):
        raise ExposureError(
            f"the query on {source.database} must be a SELECT (or begin with WITH), but begins with {bare[:20]!r}"
        )
    return query
