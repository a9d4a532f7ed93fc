"""The package's own error, and which extra of setup.cfg to install where an import fails."""

import contextlib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

_TRAINING = (
    *("tensorflow", "jax", "torch"),
    *("h5py", "jinja2", "keras", "loky", "matplotlib", "pandas", "safetensors", "tensorboardX"),
)
_EXTRAS = {
    "sklearn": "audit",
    "skimage": "audit",
    "fontTools": "synthesis",
    "brotli": "synthesis",
    "onnx": "export",
    "tf2onnx": "export",
    "fastapi": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "ai_edge_litert": "export",
}


class HccrError(ValueError):
    """Something that the caller can mend: the message names the file and the remedy.

    The commands print it as one line; any other error, but for the system's `OSError`, is a bug
    of the package and shows its traceback.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> HccrError:
    """Returns the error for a name that there isn't: what was probably meant, or all there are.

    Args:
        kind: such as "recipe" or "argument of brick_net".
        name: as it was given.
        known: the names that there are.
    """
    names = list(known)
    close = [known for known in names if name and name in known] or get_close_matches(name, names)
    there = f"Did you mean {', '.join(close)}?" if close else f"There are: {', '.join(names)}."
    return HccrError(f"No {kind} is called {name!r}. {there}")


def missing_extra(error: ModuleNotFoundError, extra: str | None = None) -> HccrError | None:
    """Returns the error that names the extra to install; None if no extra has the module.

    Args:
        error: of the import that failed.
        extra: what brings all that was asked for; by the module if None.
    """
    module = (error.name or "").partition(".")[0]
    if module not in (*_TRAINING, *_EXTRAS):
        return None
    if extra := extra or _EXTRAS.get(module):
        return HccrError(f"This needs {module}: pip install 'hccr_tf[{extra}]'.")
    return HccrError(
        f"This needs {module}: pip install 'hccr_tf[tensorflow]', or [gpu], [jax], [torch], "
        "which bring Keras, a framework that it runs on, and what training takes."
    )


@contextlib.contextmanager
def naming_extra(extra: str | None = None) -> Iterator[None]:
    """Raises `missing_extra`'s error where an import in the block fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_extra(error, extra) or error from error
