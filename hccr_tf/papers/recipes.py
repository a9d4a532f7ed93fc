"""Recipes by name: those of each paper's `recipes.py`, which is data only and fills `RECIPES`."""

from importlib import import_module
from pkgutil import iter_modules

from hccr_tf import papers
from hccr_tf.recipe import Recipe
from hccr_tf.utils.registry import Registry


def paper_modules(name: str) -> list:
    """Imports a module of every paper's room, such as its "recipes"."""
    rooms = [module.name for module in iter_modules(papers.__path__) if module.ispkg]
    return [import_module(f"{papers.__name__}.{room}.{name}") for room in rooms]


def _load() -> None:
    for module in paper_modules("recipes"):
        for recipe in module.RECIPES:
            RECIPES.add(recipe.name, recipe)


RECIPES: Registry[Recipe] = Registry("recipe", _load)


def list_recipes() -> list[str]:
    """Lists the names that `get_recipe` takes, in the order of their files."""
    return list(RECIPES)


def get_recipe(name: str) -> Recipe:
    """Returns a recipe by name.

    Raises:
        HccrError: there is none of that name.
    """
    return RECIPES[name]
