"""NAME=VALUE texts of a command line."""

from collections.abc import Sequence


def parse_settings(texts: Sequence[str]) -> dict[str, object]:
    """Reads NAME=VALUE texts; values that are no Python literals are texts."""
    import ast

    settings: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE, not {text!r}.")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return settings
