"""hccr_tf: isolated handwritten Chinese character recognition with Keras.

The public surface is what `__all__` lists; it's loaded on first use, so that commands
which need no network don't wait for one to be imported.
"""

from importlib import import_module

from hccr_tf.utils import backend as _backend
from hccr_tf.utils.errors import naming_extra

__version__ = "0.2.0"

_backend.choose()

_PUBLIC = {
    # Data
    "Charset": "hccr_tf.charset",
    "open_dataset": "hccr_tf.data.opening",
    "prepare": "hccr_tf.data.store.prepare",
    "Store": "hccr_tf.data.store.store",
    "Preprocessing": "hccr_tf.data.loading.preprocessing",
    "Loader": "hccr_tf.data.loading.loader",
    "make_stroke_store": "hccr_tf.synthesis.dataset",
    "audit_store": "hccr_tf.audit.audit:audit",
    # Networks and training
    "Recipe": "hccr_tf.recipe",
    "get_recipe": "hccr_tf.papers.recipes",
    "list_recipes": "hccr_tf.papers.recipes",
    "create_model": "hccr_tf.models",
    "list_models": "hccr_tf.models",
    "create_loss": "hccr_tf.losses",
    "train": "hccr_tf.training",
    "sweep": "hccr_tf.papers.sweep",
    "reproduce": "hccr_tf.papers.base",
    # Recognition
    "Recognizer": "hccr_tf.inference.recognizer",
    "Recognition": "hccr_tf.inference.recognizer",
    "Predictor": "hccr_tf.inference.predictor",
    "predict_split": "hccr_tf.inference.predictor",
    "fuse": "hccr_tf.inference.fusion",
    "search_weights": "hccr_tf.inference.fusion",
    "calibrate": "hccr_tf.inference.calibration",
    "ActivationMapper": "hccr_tf.inference.cam",
    "StepPredictor": "hccr_tf.inference.refinement",
    "pack": "hccr_tf.export.pack",
    "export_run": "hccr_tf.export.export",
    "export_page": "hccr_tf.export.page",
    "HccrError": "hccr_tf.utils.errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    with naming_extra(), _backend.without_notes():
        value = getattr(import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
