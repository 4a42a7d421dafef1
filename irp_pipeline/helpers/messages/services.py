"""Who gets which messages: the apprise URLs of ``IRP_MESSAGES``, and giving a message to one of them.

https://github.com/caronc/apprise/wiki. The URLs are secrets: no error, log or record contains any part of one but its
scheme. Not here: what is sent when (:mod:`irp_pipeline.helpers.messages.sending`).
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from irp_pipeline import settings
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.messages.message import Event

if TYPE_CHECKING:
    from apprise import NotifyBase

_MOST_SECONDS: Final = 5.0
"""How long a service may take to accept a connection, and then to answer."""

_ENTRY: Final = re.compile(r"(?:(?P<tags>[A-Za-z0-9_,-]+)=)?(?P<url>[A-Za-z][A-Za-z0-9]*://.+)")
_TALKATIVE: Final = ("apprise", "urllib3.connectionpool")
"""Loggers that write parts of URLs."""


class MessagesError(IrpError):
    """``IRP_MESSAGES`` cannot be used; the message says why, and contains no part of it."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service that takes messages.

    Attributes:
        name: the scheme of its URL, and the how-manieth with this scheme it is, such as ``mailto 1``.
        events: what it is told.
    """

    name: str
    events: frozenset[Event]
    _plugin: NotifyBase

    def send(self, title: str, body: str) -> str | None:
        """Give it a message.

        It waits at most five seconds for a connection, and five for each answer.

        Returns:
            None if the service took it; else why not.
        """
        with _unlogged() as said:
            try:
                taken = self._plugin.notify(body=body, title=title, body_format="text")
            except Exception as error:  # of a plug-in: any kind, and its message may hold the URL
                return f"sending failed with {type(error).__name__}"
        if taken:
            return None
        statuses = [found[1] for line in said if (found := re.search(r"\berror=([1-5][0-9]{2})\b", line))]
        return f"the service answered with status {statuses[-1]}" if statuses else "the service did not take it"


@dataclass(frozen=True, kw_only=True)
class Services:
    """The services of ``IRP_MESSAGES``.

    Attributes:
        usable: those that can be used.
        problems: what is wrong with the others, each in a sentence that says what to do.
    """

    usable: tuple[Service, ...]
    problems: tuple[str, ...]

    def told(self, event: Event) -> list[str]:
        """Return the names of those that are told of an event."""
        return [service.name for service in self.usable if event in service.events]


def find_services() -> Services | None:
    """Read ``IRP_MESSAGES``.

    Returns:
        The services; None if it is not set.

    Raises:
        MessagesError: apprise is not installed, or the file that it names cannot be read.
        SettingsError: it is not text.
    """
    text = settings.messages()
    if text is None:
        return None
    try:
        import apprise  # noqa: F401
    except ImportError:
        raise MessagesError(
            "IRP_MESSAGES is set, but apprise is not installed. Install it: pip install 'irp-pipeline[messages]'"
        ) from None
    with _unlogged() as said:
        plugins, problems = _of_urls(text) if "://" in text else _of_file(text, said)
    counted: Counter[str] = Counter()
    usable = []
    for place, plugin in plugins:
        scheme = _scheme(plugin)
        counted[scheme] += 1
        name = f"{scheme} {counted[scheme]}"
        events = _events(str(tag) for tag in plugin.tags)
        if events:
            usable.append(Service(name=name, events=events, _plugin=_hurried(plugin)))
        else:
            problems.append(
                f"{place} has tags, but none of {', '.join(Event)}: it gets nothing. Correct its tags, or remove them"
            )
    return Services(usable=tuple(usable), problems=tuple(problems))


def _of_urls(text: str) -> tuple[list[tuple[str, NotifyBase]], list[str]]:
    from apprise import Apprise

    plugins, problems = [], []
    for number, entry in enumerate(text.split(), start=1):
        place = f"Entry {number} of IRP_MESSAGES"
        found = _ENTRY.fullmatch(entry)
        tags = set(found["tags"].split(",")) - {""} if found and found["tags"] else None
        plugin = Apprise.instantiate(found["url"], tag=tags) if found else None
        if plugin is None:
            problems.append(
                f"{place} is not a URL that apprise can use. Write it as apprise documents it for the service, "
                "or with tags as failed,stuck=mailto://…; a blank within a URL is %20"
            )
        else:
            plugins.append((place, plugin))
    return plugins, problems


def _of_file(path: str, said: list[str]) -> tuple[list[tuple[str, NotifyBase]], list[str]]:
    from apprise import AppriseConfig

    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise MessagesError(
            f"The file that IRP_MESSAGES names cannot be read: {reason}. Correct the path, or write URLs of apprise"
        ) from None
    config = AppriseConfig()
    config.add_config(content)
    plugins = [(f"Service {number} of the file of IRP_MESSAGES", p) for number, p in enumerate(config.services(), 1)]
    problems = []
    if said or not plugins:
        wrong = "has entries that apprise cannot use" if plugins else "has no service that apprise can use"
        problems.append(f"The file of IRP_MESSAGES {wrong}. To see them: apprise --dry-run -v -b test -c FILE")
    return plugins, problems


def _scheme(plugin: NotifyBase) -> str:
    return str(plugin.schema or plugin.service_name).lower()


def _events(tags: Iterable[str]) -> frozenset[Event]:
    named = set(tags)
    return frozenset(Event) if not named else frozenset(event for event in Event if event in named)


def _hurried(plugin: NotifyBase) -> NotifyBase:
    """Limit how long a plugin waits, whatever its URL says."""
    plugin.socket_connect_timeout = min(plugin.socket_connect_timeout or _MOST_SECONDS, _MOST_SECONDS)
    plugin.socket_read_timeout = min(plugin.socket_read_timeout or _MOST_SECONDS, _MOST_SECONDS)
    return plugin


class _Withheld(logging.Filter):
    """Keeps what one thread logs from every handler, and remembers its warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        if record.levelno >= logging.WARNING:
            self.said.append(record.getMessage())
        return False


@contextmanager
def _unlogged() -> Iterator[list[str]]:
    """Withhold what apprise logs; the warnings are in the list."""
    withheld = _Withheld()
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    for logger in loggers:
        logger.addFilter(withheld)
    try:
        yield withheld.said
    finally:
        for logger in loggers:
            logger.removeFilter(withheld)
