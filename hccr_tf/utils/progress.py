"""The one progress bar, quiet where nobody looks at one."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import TypeVar

Item = TypeVar("Item")


@contextlib.contextmanager
def progress_bar(
    title: str, total: int, wanted: bool = True, *, done: int = 0
) -> Iterator[Callable[..., None]]:
    """Shows a bar for `total` units of work on stderr, if that's a terminal and one is wanted.

    Yields:
        `advance(number, note="")`, to be called with what was done since the last call, and a
        text to stand behind the bar; where the terminal is narrow, its end is cut.
    """
    # The bar comes with Keras; reading needs neither.
    if not (wanted and sys.stderr.isatty() and find_spec("rich")):
        yield lambda number, note="": None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn
    from rich.table import Column

    whole = Column(no_wrap=True, min_width=len(title))
    rest = Column(no_wrap=True, ratio=1)
    first = TextColumn("{task.description}", table_column=whole)
    note = TextColumn("{task.fields[note]}", table_column=rest)
    columns = first, *Progress.get_default_columns()[1:], note
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        yield lambda number, note="": bar.update(task, advance=number, note=note)


def track(items: Iterable[Item], title: str, total: int, wanted: bool = True) -> Iterator[Item]:
    """Yields items beside a bar; arguments as for `progress_bar`."""
    with progress_bar(title, total, wanted) as advance:
        for item in items:
            yield item
            advance(1)
