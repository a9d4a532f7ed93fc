import dataclasses
import json

import hypothesis
import keras
import pytest
from hypothesis import strategies as st

from hccr_tf.cli.flags import Parser, add_recipe_settings
from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.losses import create_loss
from hccr_tf.models import blueprint
from hccr_tf.papers.recipes import get_recipe, list_recipes
from hccr_tf.recipe import SETTINGS, Recipe, Stage, Stages, flags


@pytest.fixture(params=list_recipes())
def recipe(request):
    return get_recipe(request.param)


# === Every recipe ===


def test_it_comes_back_from_json(recipe):
    copy = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert copy == recipe
    assert copy.differences(recipe) == []
    assert isinstance(copy.preprocessing, Preprocessing)
    assert isinstance(copy.augmentation, RandomAffine)
    assert recipe.description and "\n" not in recipe.description


def test_its_parts_can_be_made(recipe):
    small = recipe.override(image_size=96)
    model = blueprint(
        small.model, num_classes=7, image_shape=small.preprocessing.image_shape, **small.model_args
    )
    assert set(recipe.output_weights(model.output)) == set(model.output)
    create_loss(recipe.loss, **recipe.loss_args)
    optimizer = type(keras.optimizers.get(recipe.optimizer))
    optimizer(learning_rate=recipe.learning_rate, **recipe.optimizer_args)


def test_an_unknown_recipe_is_refused_with_those_there_are():
    assert len(set(list_recipes())) == len(list_recipes())
    with pytest.raises(ValueError, match="No recipe is called 'kriuk'. Did you mean "):
        get_recipe("kriuk")


# === The paper ===


@pytest.mark.parametrize(
    ("name", "kernel", "sigma"),
    [("kriuk_model1", 0, 0), ("kriuk_model2", 3, 20), ("kriuk_model3", 7, 50)],
)
def test_kriuks_values(name, kernel, sigma):
    recipe = get_recipe(name)
    assert recipe.preprocessing == Preprocessing(
        256, fit="stretch", blur_kernel=kernel, blur_sigma=sigma, tta="five_crops"
    )
    assert (recipe.model, recipe.model_args) == ("brick_net", {"num_bricks": 5, "width": 32})
    assert recipe.loss == "categorical_focal"
    assert recipe.loss_args == {"gamma": 4.0, "alpha": 0.25}
    assert recipe.loss_weights == {
        "main_output": 1.0,
        "aux_output1": 0.025,
        "aux_output2": 0.05,
        "aux_output3": 0.5,
        "aux_output4": 0.2,
    }
    assert (recipe.optimizer, recipe.optimizer_args) == ("adam", {})
    assert (recipe.learning_rate, recipe.schedule, recipe.warmup_steps) == (1e-3, "constant", 0)
    assert (recipe.batch_size, recipe.epochs, recipe.patience, recipe.seed) == (128, 20, 5, 1)
    assert not recipe.augmentation
    assert recipe.mixed_precision is None


def test_chens_values():
    efficientnet, inception = (
        get_recipe(f"chen_{name}") for name in ("efficientnet_v2s", "inception_v3_gru")
    )
    # Section 4.1: the classifier, then all but the first 100 layers, ten epochs each.
    assert [(s.epochs, s.frozen) for s in efficientnet.stages] == [(10, "backbone"), (10, 100)]
    assert efficientnet.samples_per_class == 70
    assert efficientnet.validation_per_class * 15 == 1050
    # Section 4.2 and table 2, model 12; a fifth of 5 % of 1,000 images a class validates.
    assert inception.preprocessing.image_size == 299
    assert (inception.learning_rate, inception.batch_size) == (1e-4, 40)
    assert (inception.samples_per_class, inception.validation_per_class) == (40, 10)
    for recipe in (efficientnet, inception):
        assert recipe.weights == "imagenet" and recipe.patience == recipe.epochs == 20


def test_another_network_comes_with_its_own_arguments():
    recipe = get_recipe("chen_inception_v3_gru").override(
        model="convnet", **{"model.width": 8}, weights=None
    )
    assert (recipe.model, recipe.model_args, recipe.weights) == ("convnet", {"width": 8}, None)
    # Where a network takes no weights, those of the recipe's aren't asked for.
    recipe = get_recipe("chen_efficientnet_v2s")
    assert recipe.override(model="convnet").weights is None
    assert recipe.override(model="applications:VGG16").weights == "imagenet"
    assert recipe.override(samples_per_class=None).samples_per_class is None
    # Nor does another network begin with the weights of the recipe's.
    recipe = get_recipe("fine_tune")
    assert recipe.override(epochs=3).init_from == "recogniser"
    assert recipe.override(model="convnet").init_from is None
    with pytest.raises(ValueError, match=r"\['weights'\] are no arguments of a network"):
        recipe.override(model_args={"weights": "imagenet"})


# === Overrides ===


def test_override_leaves_the_rest_and_the_original():
    recipe = get_recipe("kriuk_model3")
    before = recipe.to_dict()
    changed = recipe.override(
        epochs=3,
        image_size=64,
        blur_size=256,
        **{"model.num_bricks": 4, "loss.gamma": 2.0, "augmentation.shift": 0.1},
    )
    assert recipe.to_dict() == before
    assert recipe.override() == recipe.override({}) == recipe
    assert changed.preprocessing == Preprocessing(
        64, blur_kernel=7, blur_sigma=50, blur_size=256, tta="five_crops"
    )
    assert changed.model_args == {"num_bricks": 4, "width": 32}
    assert changed.loss_args == {"gamma": 2.0, "alpha": 0.25}
    assert changed.augmentation == RandomAffine(shift=0.1)
    assert changed.differences(recipe) == [
        "augmentation.shift: 0.1, 0.0",
        "epochs: 3, 20",
        "loss_args.gamma: 2.0, 4.0",
        "model_args.num_bricks: 4, 5",
        "preprocessing.blur_size: 256, None",
        "preprocessing.image_size: 64, 256",
    ]


words = st.text("bcdefghijklmpqrstuvwxyz0123456789_.,:[]'", min_size=1)
integers, floats = st.integers(0), st.floats(0, allow_nan=False, allow_infinity=False)
scalars = integers | floats | st.booleans() | st.none() | words
values = {
    str: words,
    int: integers,
    float: floats,
    bool: st.booleans(),
    Stages: st.lists(
        st.builds(
            Stage,
            st.integers(1, 99),
            st.just("backbone") | st.integers(0, 99),
            st.none() | st.floats(1e-9, 1),
        )
    ).map(Stages),
}
typed = {
    name: values[setting.kind] | st.none()
    if setting.optional and setting.kind is not bool
    else values[setting.kind]
    for name, setting in SETTINGS.items()
}
groups = {"model.num_bricks": scalars | st.lists(scalars), "loss_weights.step*": floats}


@hypothesis.given(st.fixed_dictionaries({}, optional=typed | groups))
def test_settings_as_flags_are_read_back(settings):
    parser = Parser()
    add_recipe_settings(parser)
    assert vars(parser.parse_args(flags(settings))) == settings


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_changes_one_field(name):
    examples = {
        "loss": "cross_entropy",
        "loss_reduction": "mean",
        "optimizer": "sgd",
        "schedule": "cosine",
        "mixed_precision": "bfloat16",
        "fit": "pad",
        "tta": "stretches",
        "blur_kernel": 9,
        "blur_size": 512,
        "border": 0.125,
        "model": "convnet",
        "weights": "imagenet",
        "stages": "backbone:3",
    }
    default = 0.25 if name.startswith("augmentation") else 3
    value = examples.get(name, True if SETTINGS[name].kind is bool else default)
    recipe = get_recipe("kriuk_model2")
    changed = recipe.override({name: value})
    assert any(name in line for line in changed.differences(recipe))


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"loss": "binary_focal"}, {"gamma": 4.0, "alpha": 0.25}),
        ({"loss": "binary_focal", "loss.gamma": 1.0}, {"gamma": 1.0, "alpha": 0.25}),
        ({"loss": "cross_entropy"}, {}),
        (
            {"loss.gamma": 0.0, "loss.alpha": "class_frequency"},
            {"gamma": 0.0, "alpha": "class_frequency"},
        ),
    ],
)
def test_a_losss_arguments_go_along_where_the_new_one_has_them(settings, arguments):
    changed = get_recipe("kriuk_model1").override(**settings)
    assert changed.loss_args == arguments
    create_loss(changed.loss, class_counts=[1, 2], **changed.loss_args)
    # One that was asked for is never dropped.
    changed = get_recipe("kriuk_model1").override(loss="cross_entropy", **{"loss.gamma": 1.0})
    assert changed.loss_args == {"gamma": 1.0}
    with pytest.raises(ValueError, match="No argument of cross_entropy is called 'gamma'"):
        create_loss(changed.loss, **changed.loss_args)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"colour": 1}, "No setting of a recipe is called 'colour'. There are: model, weights, "),
        (
            {"loss": "focal"},
            "No loss is called 'focal'. Did you mean categorical_focal, binary_focal",
        ),
        ({"epochs": 0}, "epochs is at least 1, and below"),
        ({"batch_size": 0}, "batch_size is at least 1"),
        ({"patience": 0}, "patience is at least 1"),
        (
            {"schedule": "step"},
            "No schedule is called 'step'. There are: constant, cosine, halve, stall",
        ),
        ({"mixed_precision": "int8"}, "mixed_precision is"),
        ({"learning_rate": 0.0}, "learning_rate lies in"),
        ({"blur_kernel": 4}, "blur_kernel is odd"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("kriuk_model1").override(**settings)


def test_settings_of_another_version_are_named():
    config = get_recipe("kriuk_model1").to_dict()
    with pytest.raises(ValueError, match=r"unknown here: \['ema'\]"):
        Recipe.from_dict({**config, "ema": 0.99})


def test_differences_of_settings_that_only_one_has():
    recipe = get_recipe("kriuk_model1")
    other = dataclasses.replace(recipe, optimizer_args={"clipnorm": 1.0})
    assert recipe.differences(other) == ["optimizer_args.clipnorm: None, 1.0"]
    assert other.differences(recipe) == ["optimizer_args.clipnorm: 1.0, None"]
    # A tuple and a list don't differ.
    mine = dataclasses.replace(recipe, model_args={"widths": (1, 2)})
    assert mine.differences(Recipe.from_dict(json.loads(json.dumps(mine.to_dict())))) == []


def test_weights_of_outputs():
    recipe = get_recipe("mrbc_ir")
    outputs = ["step1", "step2", "main_output"]
    assert recipe.output_weights(outputs) == pytest.approx(dict.fromkeys(outputs, 1 / 3))
    last = recipe.override(**{"loss_weights.step*": 0.0}).output_weights(outputs)
    assert last == {"step1": 0, "step2": 0, "main_output": 1}
    # An exact name goes before a pattern; a sum is left as it is.
    recipe = recipe.override(
        loss_weights={"*": 0.5, "step2": 3.0, "main_output": 1.0}, loss_reduction="sum"
    )
    assert recipe.output_weights(outputs) == {"step1": 0.5, "step2": 3.0, "main_output": 1.0}
    with pytest.raises(ValueError, match="every output the loss weight 0"):
        recipe.override(loss_weights={"*": 0.0}).output_weights(outputs)
    with pytest.raises(ValueError, match="Loss weights are at least 0"):
        get_recipe("mrbc_ir").override(**{"loss_weights.step*": -1.0})
    with pytest.raises(
        ValueError, match=r"No output of melnyk_c is called 'step\*'. There are: main_output"
    ):
        get_recipe("melnyk_c").override(**{"loss_weights.step*": 0.0})
    with pytest.raises(ValueError, match=r"no loss weight for the outputs \['aux_output1'\]"):
        get_recipe("mrbc_ir").output_weights(["main_output", "aux_output1"])
