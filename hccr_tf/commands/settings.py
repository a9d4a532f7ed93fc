"""NAME=VALUE texts of a command line."""

from collections.abc import Sequence

from hccr_tf.recipes import OVERRIDES


def parse_settings(texts: Sequence[str]) -> dict[str, object]:
    """Reads NAME=VALUE texts; values that are no Python literals are texts."""
    return {name: _literal(value) for name, value in map(_parted, texts)}


def parse_named(options, option: str, known: Sequence[str], kind: type) -> dict[str, object]:
    """Reads what NAME=VALUE texts of an option give to some of the files that a command has.

    Raises:
        ValueError: another form, no such file, or a value that's not of that kind.
    """
    values = {}
    for text in getattr(options, option):
        name, _, value = text.partition("=")
        if name not in known or not value:
            raise ValueError(f"--{option} takes NAME=VALUE with a NAME of {known}, not {text!r}.")
        try:
            values[name] = kind(value)
        except ValueError as error:
            raise ValueError(f"--{option} {text}: {error}") from error
    return values


def parse_grid(texts: Sequence[str]) -> dict[str, list]:
    """Reads NAME=VALUE,VALUE… texts; settings of recipes are read as their own options are.

    Values that have commas themselves are separated by semicolons.

    Raises:
        ValueError: another form, a name twice, or a value that its setting can't have.
    """
    grid: dict[str, list] = {}
    for name, values in map(_parted, texts):
        if name in grid:
            raise ValueError(f"--set {name} is given twice; name all its values in one.")
        kind = OVERRIDES[name][0] if name in OVERRIDES else _literal
        kind = _boolean if kind is bool else kind
        try:
            separated = values.split(";" if ";" in values else ",")
            grid[name] = [kind(value.strip()) for value in separated if value.strip()]
        except ValueError as error:
            raise ValueError(f"--set {name}={values}: {error}") from error
    return grid


def _parted(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise ValueError(f"--set takes NAME=VALUE, not {text!r}.")
    return name, value


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"it is True or False, not {text!r}.")
    return text.lower() == "true"


def _literal(text: str) -> object:
    import ast

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
