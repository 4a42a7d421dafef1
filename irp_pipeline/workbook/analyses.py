"""The sheet Analyses: the columns that every analysis has, and between them those that the risk engines declare.

Not here: which columns an engine has. It declares them (:mod:`irp_pipeline.engines.declaration`); this module combines
them when it is imported.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, create_model, model_serializer
from pydantic.fields import FieldInfo

from irp_pipeline.columns import TEXT, Column, Kind, Name, Row, no_repeats, not_empty, several_of
from irp_pipeline.columns.kinds import choice_of, one_of, text_of
from irp_pipeline.engines import ENGINES, EngineDeclaration, declared
from irp_pipeline.engines.declaration import OF_ALL_ENGINES
from irp_pipeline.plugins import OWN_DISTRIBUTION
from irp_pipeline.vocabulary import Perspective

NAME_RULE: Final = "Letters, digits, `_`, `-` and `.`; names are not case-sensitive."
_ENGINES: Final[Mapping[str, EngineDeclaration]] = ENGINES.declared()
ENGINE_NAMES: Final = tuple(_ENGINES)
"""What the column ``engine`` can hold."""
_OWN_COLUMNS: Final = frozenset(
    column
    for name, declaration in _ENGINES.items()
    if ENGINES.distribution_of(name) == OWN_DISTRIBUTION
    for column in declaration.columns.model_fields
)
"""The columns of this project's own engines. Every analysis has them, filled or not."""
_ONLY_IF_FILLED: Final = frozenset(
    name
    for declaration in _ENGINES.values()
    for name, column in declaration.columns.columns().items()
    if column.only_if_filled
)
_EXAMPLES: Final = tuple(row for declaration in _ENGINES.values() for row in declaration.examples)


def _examples(column: str) -> tuple[str, ...]:
    return tuple(row.get(column, "") for row in _EXAMPLES)


def _engine(value: object) -> str:
    text = text_of(value)
    for fault in ENGINES.faults():
        if fault.name.casefold() == text.casefold():
            raise ValueError(fault.message)
    return choice_of(text, ENGINE_NAMES)


class _FirstColumns(Row):
    name: Annotated[
        Name,
        Column(f"Name of the analysis. {NAME_RULE}", TEXT, _examples("name"), width=24),
    ]
    portfolio: Annotated[
        Name,
        Column(
            "The portfolio to analyse: a name of the sheet Portfolios.",
            TEXT,
            _examples("portfolio"),
            options_from=("Portfolios", "name"),
        ),
    ]
    engine: Annotated[
        str,
        Column(
            " ".join(declaration.help for declaration in _ENGINES.values()),
            Kind(one_of(ENGINE_NAMES).description, _engine, str),
            _examples("engine"),
            options=ENGINE_NAMES,
            width=22,
        ),
    ]

    @model_serializer(mode="wrap")
    def _without_columns_of_others(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out columns of other distributions' engines, so that installing one does not change these analyses.

        Empty columns that came later are left out, too.
        """
        fields: dict[str, Any] = serialize(self)
        kept = _OWN_COLUMNS.union(OF_ALL_ENGINES, _ENGINES[self.engine].columns.model_fields)
        return {
            name: value for name, value in fields.items() if name in kept and (value or name not in _ONLY_IF_FILLED)
        }

    @classmethod
    def with_defaults(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        filled = super().with_defaults(fields)
        declaration = declared(filled)
        return filled if declaration is None else declaration.columns.with_defaults(filled)

    @classmethod
    def broken_rules(cls, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().broken_rules(fields)
        declaration = declared(fields)
        rules = _ENGINES.values() if declaration is None else (declaration,)  # any engine, if that cell is broken
        yield from dict.fromkeys(found for engine in rules for found in engine.columns.broken_rules(fields))


_Perspectives = Annotated[
    tuple[Perspective, ...],
    AfterValidator(not_empty),
    AfterValidator(no_repeats),
    Column(
        "Which losses: ground-up (`GUL`), insured (`IL`, needs the account table), net of reinsurance (`RI`, needs "
        "the reinsurance tables too).",
        several_of(Perspective),
        _examples("perspectives"),
        options=("GUL", "GUL; IL", "GUL; IL; RI"),
        options_only=False,
    ),
]


def _columns_of_engines() -> dict[str, FieldInfo]:
    """Return the columns of all engines, in an order that agrees with the order of each engine."""
    order: list[str] = []
    for declaration in _ENGINES.values():
        own = list(declaration.columns.model_fields)
        for number, name in enumerate(own):
            if name not in order:
                after = next((later for later in own[number:] if later in order), None)
                order.insert(len(order) if after is None else order.index(after), name)
    return {name: next(filter(None, (item.columns.model_fields.get(name) for item in _ENGINES.values())))
            for name in order}  # fmt: skip


def _field(name: str, info: FieldInfo) -> tuple[Any, Any]:
    """Return the annotation and default of a column of engines: it must be empty for all others."""
    users = tuple(engine for engine, declaration in _ENGINES.items() if name in declaration.columns.model_fields)
    metadata = []
    for item in info.metadata:
        if isinstance(item, Column):
            is_for_some = item.needed or len(users) < len(_ENGINES)
            item = replace(item, selector="engine", only_for=users if is_for_some else (), examples=_examples(name))
        metadata.append(item)
    default = Field(default_factory=info.default_factory) if info.default_factory else info.default
    return Annotated[(info.annotation, *metadata)], default


def _names(columns: Mapping[str, tuple[Any, Any]], is_wanted: Callable[[Column], bool]) -> set[str]:
    return {
        name
        for name, (annotation, _) in columns.items()
        if any(isinstance(item, Column) and is_wanted(item) for item in annotation.__metadata__)
    }


def _assembled() -> type[_FirstColumns]:
    columns = {name: _field(name, info) for name, info in _columns_of_engines().items()}
    of_results = _names(columns, lambda column: column.of_results)
    of_machines = _names(columns, lambda column: column.of_machines)
    fields: dict[str, Any] = {
        **{name: field for name, field in columns.items() if name not in of_results | of_machines},
        "perspectives": (_Perspectives, ...),
        **{name: columns[name] for name in columns if name in of_results},
        **{name: columns[name] for name in columns if name in of_machines},
    }
    return create_model(
        "Analysis",
        __base__=_FirstColumns,
        __module__=__name__,
        __doc__="A run of a risk engine on a portfolio.",
        **fields,
    )


if TYPE_CHECKING:

    class Analysis(_FirstColumns):
        """A run of a risk engine on a portfolio."""

        perspectives: tuple[Perspective, ...]

        def __getattr__(self, name: str) -> Any:
            """A column that an engine declares."""

else:
    Analysis = _assembled()
