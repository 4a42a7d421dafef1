"""Addresses of files: which are usable. Nothing here reads a variable or a file."""

import re

_ADDRESS = re.compile(r"(?P<scheme>file|s3|abfs|abfss|az|gs|gcs)://(?P<place>[^?#\n]+)")


def is_address(text: str) -> bool:
    """Return whether a text is meant as an address, not as a path."""
    return "://" in text


def checked_address(text: str) -> str:
    """Return the address of a file or a folder, without ``/`` at its end.

    Args:
        text: such as ``file:///mnt/share/irp`` or ``s3://bucket/irp``.

    Raises:
        ValueError: it is not such an address, or holds a password. The message does not quote it.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ValueError(
            "it must be an address such as file:///mnt/share/irp, s3://bucket/irp, abfs://container/irp or "
            "gs://bucket/irp"
        )
    place = found["place"].rstrip("/")
    if ":" in place.split("/")[0].rpartition("@")[0]:
        raise ValueError(
            "it holds a password. Leave it out: the libraries that read the files take credentials from their own "
            "variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if ".." in place.split("/") or (found["scheme"] == "file") != place.startswith("/"):
        raise ValueError("its path must be absolute, as in file:///mnt/share/irp, and a bucket needs a name")
    return f"{found['scheme']}://{place}"
