"""The papers' tables and figures, one command each; a new file here is found by itself."""

from importlib import import_module
from pkgutil import iter_modules

from hccr_tf.papers.base import (
    Experiment,
    Inputs,
    get_experiment,
    list_experiments,
    register_experiment,
)
from hccr_tf.papers.results import find_results

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Experiment",
    "Inputs",
    "find_results",
    "get_experiment",
    "list_experiments",
    "register_experiment",
]
