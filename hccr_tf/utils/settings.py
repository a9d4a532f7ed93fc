"""Settings of a command from the fields of a dataclass, and their values as text.

Type and help are the dataclass's own: its annotations, and the `Attributes:` of its docstring.
"""

import ast
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.schema import check

Described = TypeVar("Described")


@dataclass(frozen=True)
class Setting:
    """A field's type, without its None, and its help."""

    kind: Any  # a type that is made of a text
    optional: bool  # whether the field can be None, written "none" or "all"
    help: str  # its line of the docstring

    def parse(self, text: str) -> Any:
        """Reads a value; raises ValueError for a text that isn't of the field's type."""
        if self.optional and text.lower() in ("none", "all"):
            return None
        if self.kind is bool:
            if text.lower() not in ("true", "false"):
                raise HccrError(f"it is true or false, not {text!r}")
            return text.lower() == "true"
        return self.kind(text)


def settings_of(described: type) -> dict[str, Setting]:
    """Returns the settings of a dataclass by the names of its fields."""
    attributes = (inspect.getdoc(described) or "").partition("Attributes:\n")[2]
    helps = {
        name: " ".join(text.split())
        for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {5,}.*)*)", attributes, re.M)
        for name in names.split(", ")
    }
    settings = {}
    for name, kind in get_type_hints(described).items():
        if name in {field.name for field in fields(described)}:
            kinds = get_args(kind) if NoneType in get_args(kind) else (kind,)
            settings[name] = Setting(kinds[0], NoneType in kinds, helps[name])
    return settings


def from_plain(described: type[Described], values: Any, source: Any = "settings") -> Described:
    """Makes a dataclass of what `asdict` gave and a file, `source`, holds.

    Raises:
        HccrError: Settings that it doesn't know or lacks, or values that they can't have.
    """
    check(values, described, source)
    if unknown := sorted(set(values) - set(get_type_hints(described))):
        raise HccrError(
            f"{source}: settings unknown here: {unknown}. It was made by another version of "
            "hccr_tf; upgrade, or make it anew."
        )
    try:
        return described(**values)
    except HccrError as error:
        raise HccrError(f"{source}: {error}") from error


def parse_literal(text: str) -> Any:
    """Reads a value whose type isn't known: a Python literal, or else the text itself."""
    word = text.title() if text.lower() in ("true", "false", "none") else text
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return text


def to_text(value: Any) -> str:
    """Writes a value as `Setting.parse` and `parse_literal` read it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if type(value) in (list, tuple):
        return f"[{','.join(map(repr, value))}]"
    if isinstance(value, str) and parse_literal(value) != value:
        return repr(value)  # a text that would be read as something else
    return str(value)


def to_words(value: Any) -> list[str]:
    """Writes a value as the words behind its flag: several for a list of at least two."""
    several = type(value) in (list, tuple) and len(value) > 1
    return [to_text(part) for part in value] if several else [to_text(value)]


def from_words(values: Sequence[Any]) -> Any:
    """Makes one value of the literals behind a flag: a list where there are several."""
    return list(values) if len(values) > 1 else values[0]
