"""Recipes, one flat file a paper; a new file here is found by itself.

A recipe file is data only: it fills `RECIPES`, a list of `Recipe`s.
"""

from importlib import import_module
from pkgutil import iter_modules

from hccr_tf.recipe import OVERRIDES, SHORT_NAMES, Recipe, Stage, parse_stages, stages_text

_RECIPES: dict[str, Recipe] = {}
for _module in iter_modules(__path__):
    for _recipe in getattr(import_module(f"{__name__}.{_module.name}"), "RECIPES", ()):
        if _recipe.name in _RECIPES:
            raise ValueError(f"Two recipes are called {_recipe.name!r}.")
        _RECIPES[_recipe.name] = _recipe


def list_recipes() -> list[str]:
    """Names that `get_recipe` takes, in the order of their files."""
    return list(_RECIPES)


def get_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in _RECIPES:
        raise ValueError(f"There is no recipe {name!r}; there are: {', '.join(_RECIPES)}.")
    return _RECIPES[name]


__all__ = ["OVERRIDES", "SHORT_NAMES", "Recipe", "Stage", "get_recipe", "list_recipes",
           "parse_stages", "stages_text"]
