"""Opening a source of exposure of any kind.

:mod:`~irp_pipeline.exposure.readers.files`, :mod:`~irp_pipeline.exposure.readers.postgres` and
:mod:`~irp_pipeline.exposure.readers.databases` read the sources.
"""

from contextlib import AbstractContextManager

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.parameters import code_of, mark, without_semicolon
from irp_pipeline.exposure.readers.sources import FileSource, QuerySource, Reader, Source, source_url
from irp_pipeline.exposure.readers.table_names import is_table_name, query_of_table

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
    backend = url.get_backend_name()
    if is_table_name(source.query.strip()):
        query = query_of_table(source.query.strip(), url)
    else:
        query = mark(_checked_query(source, backend), source.parameters, backend, _name_of(source))
    open_query = postgres.open_query if backend == "postgresql" else databases.open_query
    return open_query(source.database, url, query, table, source.parameters)


def _name_of(source: QuerySource) -> str:
    return source.description or f"the query on {source.database}"


def _checked_query(source: QuerySource, backend: str) -> str:
    """Return the query without the semicolon at its end."""
    query = without_semicolon(source.query, backend)
    bare = code_of(query, backend).lstrip(" (\n\r\t").lower()
    if not bare.startswith(_QUERY_OPENINGS):
        raise ExposureError(f"{_name_of(source)} must be a SELECT (or begin with WITH), but begins with {bare[:20]!r}")
    return query
