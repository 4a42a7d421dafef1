"""Columns of a batch of rows as arrays, and hashes of their texts, which identify locations and accounts.

Hashes hold within one process only: Python seeds those of texts anew in each.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Hashes = np.ndarray[Any, np.dtype[np.uint64]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Mask = np.ndarray[Any, np.dtype[np.bool_]]


def texts_of(rows: "pa.RecordBatch", name: str) -> "pa.Array":
    """Return a column as text; a blank cell and a missing column are ``""``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in rows.schema.names:
        return pa.repeat("", rows.num_rows)
    return pc.fill_null(rows.column(name).cast(pa.string()), "")


def numbers_of(rows: "pa.RecordBatch", name: str, blank: float = 0.0) -> "Floats":
    """Return a column as numbers; ``blank`` stands for a blank cell and a missing column."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in rows.schema.names:
        return np.full(rows.num_rows, blank)
    filled = pc.fill_null(rows.column(name).cast(pa.float64()), blank)
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.float64)


def hashes_of(texts: "pa.Array") -> "tuple[Hashes, Mask]":
    """Return a 64-bit hash of every text, and which texts are not blank."""
    import numpy as np

    encoded = texts.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    hashes = np.fromiter((hash(text) for text in distinct), np.int64, len(distinct)).view(np.uint64)
    named = np.fromiter((bool(text) for text in distinct), np.bool_, len(distinct))
    indices = encoded.indices.to_numpy()
    return hashes[indices], named[indices]


def mixed(first: "Hashes", second: "Hashes") -> "Hashes":
    """Return an ordered hash of two hashes: the finalizer of SplitMix64 (Steele, Lea, Flood 2014) after each one."""
    import numpy as np

    with np.errstate(over="ignore"):
        mixed = first
        for hashes in (np.uint64(0), second):
            mixed = (mixed ^ hashes) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
