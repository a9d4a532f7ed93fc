"""Experiments by name: what `hccr reproduce` runs."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pandas as pd

from hccr_tf import papers
from hccr_tf.data.store.store import Store
from hccr_tf.papers.plans import Plan
from hccr_tf.utils.errors import HccrError


@dataclass(frozen=True)
class Inputs:
    """What an experiment works on.

    Attributes:
        store: the data to test on.
        split: of the store.
        runs: folders of trained runs, in the order in which they're shown.
        out: folder for the results.
        validation_store: whose validation split is looked at where something is chosen; `store`
            if None.
    """

    store: Store
    split: str
    runs: Sequence[Path]
    out: Path
    validation_store: Store | None = None


@dataclass(frozen=True)
class Experiment:
    """A table or figure.

    Attributes:
        name: as `hccr reproduce` takes it.
        run: makes it; returns tables by name, each written as CSV besides.
        plan: what has to be trained for it at a scale; None where any runs will do.
    """

    name: str
    run: Callable[[Inputs], dict[str, pd.DataFrame]]
    plan: Plan | None = None

    @property
    def description(self) -> str:
        """First line of its docstring."""
        return inspect.getdoc(self.run).splitlines()[0]


_EXPERIMENTS: dict[str, Experiment] = {}


@cache
def _load() -> None:
    """Imports each paper's experiments, which register themselves."""
    for module in iter_modules(papers.__path__):
        if module.ispkg:
            import_module(f"{papers.__name__}.{module.name}.experiments")


def register_experiment(function: Callable | None = None, *, plan: Plan | None = None):
    """Registers an experiment under its function's name.

    Args:
        function: what makes it of runs.
        plan: what has to be trained for it.
    """
    if function is None:
        return lambda decorated: register_experiment(decorated, plan=plan)
    name = function.__name__
    if name in _EXPERIMENTS:
        raise HccrError(f"An experiment named {name!r} is registered already.")
    _EXPERIMENTS[name] = Experiment(name, function, plan)
    return function


def list_experiments() -> list[str]:
    """Names that `get_experiment` takes, sorted."""
    _load()
    return sorted(_EXPERIMENTS)


def get_experiment(name: str) -> Experiment:
    """An experiment by name.

    Raises:
        HccrError: there is none of that name.
    """
    _load()
    if name not in _EXPERIMENTS:
        raise HccrError(
            f"There is no experiment {name!r}; there are: {', '.join(list_experiments())}."
        )
    return _EXPERIMENTS[name]
