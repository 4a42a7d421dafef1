"""What distributions declare by entry point: risk engines, batch types and metrics.

Each group has a :class:`Registry`, in the module that says what is declared. It loads the entry points of its group
when somebody first asks. One that cannot be used breaks nothing else: ``irp doctor`` tells of it, and so does the error
when it is needed.

Here: finding and loading declarations. Not here: what is in one.

https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import re
import threading
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from irp_pipeline.errors import IrpError

OWN_DISTRIBUTION: Final = "irp-pipeline"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,49}")


class PluginError(IrpError):
    """Something that a distribution declares cannot be used."""


class Declaration(Protocol):
    """What all declarations have: a name, which is also that of the entry point."""

    @property
    def name(self) -> str: ...


DeclarationT = TypeVar("DeclarationT", bound=Declaration)


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution; None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Requirement:
    """Something that a declaration needs of this machine. ``irp doctor`` looks for it.

    Attributes:
        name: what it is, such as the name of a distribution.
        purpose: what needs it, as the end of "only needed for …".
        remedy: what to do if it is missing, such as ``pip install …``.
        find: looks for it: given the name, returns what was found, such as a version, or None.
    """

    name: str
    purpose: str
    remedy: str
    find: Callable[[str], str | None] = installed_version


@dataclass(frozen=True)
class Fault:
    """An entry point that cannot be used.

    Attributes:
        name: what it declares.
        message: why, of which distribution, and what to do.
    """

    name: str
    message: str


@dataclass(frozen=True)
class _Found:
    entry: metadata.EntryPoint
    distribution: str


class Registry(Generic[DeclarationT]):
    """The declarations of one group of entry points.

    Args:
        group: the group, such as ``irp_pipeline.engines``.
        kind: the class of the declarations.
        what: what one is called in messages, such as ``risk engine``.
        check: says what is wrong with a declaration, given those before it, as the end of a sentence; None: nothing.
        check_all: given all declarations, says which cannot be used and why, likewise; it is asked again without them.
    """

    def __init__(
        self,
        group: str,
        kind: type[DeclarationT],
        what: str,
        check: Callable[[DeclarationT, Mapping[str, DeclarationT]], str | None] = lambda declaration, others: None,
        check_all: Callable[[Mapping[str, DeclarationT]], Mapping[str, str]] = lambda declared: {},
    ) -> None:
        self.group = group
        self.what = what
        self._kind = kind
        self._check = check
        self._check_all = check_all
        self._lock = threading.RLock()
        self._declared: dict[str, DeclarationT] | None = None
        self._distributions: dict[str, str] = {}
        self._faults: dict[str, Fault] = {}

    def declared(self) -> dict[str, DeclarationT]:
        """Return the usable declarations by name: those of this project first, then by distribution and name."""
        return dict(self._loaded())

    def faults(self) -> tuple[Fault, ...]:
        """Return the entry points that cannot be used."""
        self._loaded()
        return tuple(self._faults.values())

    def distribution_of(self, name: str) -> str | None:
        """Return which distribution a declaration is of; None if it was registered by :meth:`register`."""
        self._loaded()
        return self._distributions.get(name)

    def version_of(self, name: str) -> str | None:
        """Return the version of the distribution that a declaration is of; None if that is not known."""
        distribution = self.distribution_of(name)
        return None if distribution is None else installed_version(distribution)

    def get(self, name: object) -> DeclarationT | None:
        """Return the declaration of that name; None if there is none.

        Raises:
            PluginError: a distribution has an entry point of that name which cannot be used.
        """
        found = self._loaded().get(str(name))
        if found is None and str(name) in self._faults:
            raise PluginError(self._faults[str(name)].message)
        return found

    def register(self, declaration: DeclarationT) -> None:
        """Add a declaration for this process; a later one of the same name replaces it."""
        with self._lock:
            self._loaded()[declaration.name] = declaration
            self._distributions.pop(declaration.name, None)
            self._faults.pop(declaration.name, None)

    def _loaded(self) -> dict[str, DeclarationT]:
        with self._lock:
            if self._declared is None:
                self._declared = {}
                self._load(self._declared)
            return self._declared

    def _load(self, declared: dict[str, DeclarationT]) -> None:
        by_name: defaultdict[str, list[_Found]] = defaultdict(list)
        for found in _found_in(self.group):
            by_name[found.entry.name].append(found)
        for name, several in by_name.items():
            if len(several) > 1:
                distributions = " and ".join(sorted(found.distribution for found in several))
                self._refuse(name, f"is declared by two distributions: {distributions}. Uninstall one of them")
                continue
            try:
                declaration = several[0].entry.load()
                problem = self._problem(name, declaration, declared)
            except Exception as error:
                reason = f"cannot be loaded: {type(error).__name__}: {error}. Correct or uninstall that distribution"
                self._refuse(name, f"of the distribution {several[0].distribution} {reason}")
                continue
            if problem is not None:
                self._refuse(name, f"of the distribution {several[0].distribution} cannot be used: {problem}")
                continue
            declared[name] = declaration
            self._distributions[name] = several[0].distribution
        while problems := self._check_all(declared):
            for name, problem in problems.items():
                del declared[name]
                self._refuse(name, f"of the distribution {self._distributions.pop(name)} cannot be used: {problem}")

    def _problem(self, name: str, declaration: Any, declared: Mapping[str, DeclarationT]) -> str | None:
        if not isinstance(declaration, self._kind):
            return f"its entry point names a {type(declaration).__name__}, not a {self._kind.__name__}"
        if declaration.name != name:
            return f"its entry point has another name than its declaration, which says {declaration.name!r}"
        if not _NAME.fullmatch(name):
            return "a name is 1 to 50 of A-Z, a-z, 0-9 and '_', beginning with a letter"
        return self._check(declaration, declared)

    def _refuse(self, name: str, why: str) -> None:
        self._faults[name] = Fault(name, f"The {self.what} {name!r} {why}")


def _found_in(group: str) -> Iterator[_Found]:
    """Yield the entry points of a group: those of this project as it lists them, then others by distribution."""
    others: list[_Found] = []
    own = _of_checkout(group)
    for entry in metadata.entry_points(group=group):
        distribution = entry.dist.name if entry.dist is not None else "of no name"
        if _normalized(distribution) != OWN_DISTRIBUTION:
            others.append(_Found(entry, distribution))
        elif own is None:
            yield _Found(entry, OWN_DISTRIBUTION)
    yield from (_Found(entry, OWN_DISTRIBUTION) for entry in own or ())
    yield from sorted(others, key=lambda found: (found.distribution, found.entry.name))


def _of_checkout(group: str) -> Iterable[metadata.EntryPoint] | None:
    """Return this project's own entry points as its source says them; None if it runs from an installed copy.

    What was installed from a checkout may be older than the checkout.
    """
    file = Path(__file__).parents[1] / "pyproject.toml"
    if not file.is_file():
        return None
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    if project.get("name") != OWN_DISTRIBUTION:
        return None
    entries = project.get("entry-points", {}).get(group, {})
    return [metadata.EntryPoint(name, value, group) for name, value in entries.items()]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
