"""The package's own error, and which extra of setup.cfg to install where an import fails."""

_FRAMEWORK = (
    "Keras runs on a framework, and none is installed: pip install 'hccr_tf[tensorflow]', or "
    "[gpu], [jax], [torch]"
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
}


class HccrError(ValueError):
    """Something that the caller can mend: the message names the file and the remedy.

    The commands print it as one line; any other error, but for the system's `OSError`, is a bug
    of the package and shows its traceback.
    """


def missing_extra(error: ModuleNotFoundError) -> HccrError | None:
    """Returns the error that names the extra to install; None if no extra has the module."""
    module = (error.name or "").partition(".")[0]
    if module in ("tensorflow", "jax", "torch"):
        return HccrError(f"{_FRAMEWORK} (Keras asked for {module}).")
    if module in _EXTRAS:
        return HccrError(f"This needs {module}: pip install 'hccr_tf[{_EXTRAS[module]}]'.")
    return None
