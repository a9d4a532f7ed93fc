"""Objects by name: models, recipes, experiments, readers."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from hccr_tf.utils.errors import HccrError, unknown

Item = TypeVar("Item")


class Registry(Mapping[str, Item], Generic[Item]):
    """A mapping whose entries add themselves, when `load` imports their modules at the first look.

    Its `kind`, such as "recipe", stands in messages.
    """

    def __init__(self, kind: str, load: Callable[[], object]):
        self._kind, self._load, self._loaded = kind, load, False
        self._items: dict[str, Item] = {}

    def add(self, name: str, item: Item) -> None:
        """Adds an entry; raises HccrError where there is one of that name."""
        if name in self._items:
            raise HccrError(f"The {self._kind} {name!r} is registered already.")
        self._items[name] = item

    def _all(self) -> dict[str, Item]:
        if not self._loaded:
            self._loaded = True
            self._load()
        return self._items

    def __getitem__(self, name: str) -> Item:
        if name not in self._all():
            raise unknown(self._kind, name, self)
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())
