"""Recipes by name: those of each paper's `recipes.py`, which is data only and fills `RECIPES`."""

from importlib import import_module
from pkgutil import iter_modules

from hccr_tf import papers
from hccr_tf.recipe import Recipe
from hccr_tf.utils.errors import HccrError

_RECIPES: dict[str, Recipe] = {}
for _paper in (module.name for module in iter_modules(papers.__path__) if module.ispkg):
    for _recipe in import_module(f"{papers.__name__}.{_paper}.recipes").RECIPES:
        if _recipe.name in _RECIPES:
            raise HccrError(f"Two recipes are called {_recipe.name!r}.")
        _RECIPES[_recipe.name] = _recipe


def list_recipes() -> list[str]:
    """Names that `get_recipe` takes, in the order of their files."""
    return list(_RECIPES)


def get_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        HccrError: there is none of that name.
    """
    if name not in _RECIPES:
        raise HccrError(f"There is no recipe {name!r}; there are: {', '.join(_RECIPES)}.")
    return _RECIPES[name]
