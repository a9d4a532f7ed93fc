"""Networks, one architecture family a file; a new file here is found by itself."""

from importlib import import_module
from pkgutil import iter_modules

from hccr_tf.models.registry import (
    ATTENTION,
    BACKBONE,
    FEATURE_MAP,
    INPUT_SCALING,
    MAIN_OUTPUT,
    POOLING,
    UNION,
    backbone_layers,
    blueprint,
    class_variables,
    create_model,
    is_refined,
    list_families,
    list_models,
    model_arguments,
    model_description,
    register_family,
    register_model,
    takes_weights,
)

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
