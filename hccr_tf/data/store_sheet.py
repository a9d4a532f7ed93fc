"""Contact sheets of a store: one class a row, to look at data before training."""

import os

import numpy as np

from hccr_tf.data.dataset import Dataset
from hccr_tf.images.contact_sheet import draw_sheet
from hccr_tf.utils.errors import HccrError

MAX_CLASSES = 20
"""Most classes on a sheet of a store; more would not be looked at."""


def store_sheet(
    store: Dataset,
    path: str | os.PathLike[str],
    split: str | None = None,
    rows: int = 10,
    columns: int = 12,
) -> np.ndarray:
    """Writes a sheet of a store: one class a row, drawn at random.

    Args:
        store: The store, of images or of strokes.
        path: The PNG file to write.
        split: One of `Store.indices`, "all" by default.
        rows: Number of classes, at most `MAX_CLASSES`; fewer where the store has fewer.
        columns: Images per class; places stay empty where a class has fewer.

    Returns:
        The sheet, shape (height, width), uint8.

    Raises:
        HccrError: The split does not exist or is empty, or rows or columns are out of range.
    """
    if not 1 <= rows <= MAX_CLASSES or columns < 1:
        raise HccrError(f"a sheet has 1 to {MAX_CLASSES} rows and at least 1 column")
    indices = store.indices(split or "all")
    labels = store.labels_for(store.charset, indices)
    rng = np.random.default_rng(0)
    classes = np.unique(labels)
    classes = np.sort(rng.permutation(classes)[:rows])
    images: list[np.ndarray | None] = []
    texts: list[str] = []
    for label in classes:
        drawn = np.sort(rng.permutation(indices[labels == label])[:columns])
        images += [store.image(int(i)) for i in drawn] + [None] * (columns - len(drawn))
        texts += [store.charset.char(int(label))] * columns
    title = f"{store.path.name}: {split or 'all'}, {len(classes)} of {len(store.charset)} classes"
    return draw_sheet(images, texts, path, columns=columns, title=title)
