"""Networks without values, for their shapes, costs and the names of their variables."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras


def without_values(build: Callable[[], Any]) -> Any:
    """Calls a function whose layers get variables with shapes and paths, but without values."""
    policy = keras.config.dtype_policy()

    def work():
        keras.config.set_dtype_policy(policy)
        with keras.StatelessScope(initialize_variables=False):
            return build()

    # In a thread, because Keras notes variables without values by thread, and gives all of them
    # values as soon as some layer of the same thread needs its own.
    with ThreadPoolExecutor(1, thread_name_prefix="hccr-blueprint") as pool:
        return pool.submit(work).result()
