"""Announcing failed runs: in the log, and to a webhook if ``IRP_WEBHOOK_URL`` names one."""

import http.client
import json
import logging
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from typing import Protocol

from irp_pipeline import settings

_TIMEOUT_SECONDS = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FailedRun:
    """The announcement of a failed run."""

    run_id: str
    job: str
    cycle: str | None
    schema: str
    step: str | None
    error: str


class Notifier(Protocol):
    """Announces a failed run. The tick of the sensor shows an error, and the sensor tries again."""

    def __call__(self, failed: FailedRun) -> None:
        """Announce it."""


def log(failed: FailedRun) -> None:
    """Write the failure to the log."""
    _log.error(
        "%s failed for cycle %s in schema %s: %s (run %s)",
        failed.job, failed.cycle, failed.schema, failed.error, failed.run_id,
    )  # fmt: skip


def post_to_webhook(failed: FailedRun) -> None:
    """Send the failure as JSON to ``IRP_WEBHOOK_URL``.

    Raises:
        OSError: the address does not answer, or answers with an error. The message does not contain the address, which
            may be secret.
    """
    url = settings.webhook_url()
    if url is None:
        return
    about = asdict(failed)
    # Chat systems show "text"; programs read the rest.
    about["text"] = f"{failed.job} failed for cycle {failed.cycle} in schema {failed.schema}: {failed.error}"
    if not url.startswith(("http://", "https://")):
        raise OSError("IRP_WEBHOOK_URL must begin with http:// or https://")
    try:
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked
            url, data=json.dumps(about).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(f"The webhook of IRP_WEBHOOK_URL did not take the message: {error}") from None
    except OSError as error:
        raise OSError(f"The webhook of IRP_WEBHOOK_URL did not take the message: {error}") from None
    except (ValueError, http.client.InvalidURL):
        raise OSError("IRP_WEBHOOK_URL cannot be read as an address") from None  # the message would show part of it


def notifiers() -> list[Notifier]:
    """Return the notifiers: the log, and the webhook if there is one."""
    return [log, post_to_webhook] if settings.webhook_url() else [log]
