"""AlexNet, GoogLeNet and the compact network: shapes and parameters by hand."""

import keras
import numpy as np
import pytest

from hccr_tf.models import FEATURE_MAP, MAIN_OUTPUT, blueprint, create_model


def _conv(kernel, before, filters, bias=True):
    return kernel * kernel * before * filters + bias * filters


def test_alexnets_parameters_by_hand():
    model = blueprint("alexnet", num_classes=1000, image_shape=(227, 227, 1))
    convolutions = (
        _conv(11, 1, 96)
        + _conv(5, 96, 256)
        + _conv(3, 256, 384)
        + _conv(3, 384, 384)
        + _conv(3, 384, 256)
    )
    # 227 / 4, then three poolings by 2, each rounded up
    assert model.get_layer(FEATURE_MAP).output.shape == (None, 8, 8, 256)
    dense = (8 * 8 * 256 + 1) * 4096 + 4097 * 4096 + 4097 * 1000
    assert model.count_params() == convolutions + dense


def _module(before, widths):
    one, before3, three, before5, five, pooled = widths
    return (
        _conv(1, before, one)
        + _conv(1, before, before3)
        + _conv(3, before3, three)
        + _conv(1, before, before5)
        + _conv(5, before5, five)
        + _conv(1, before, pooled)
    )


def test_googlenets_parameters_by_hand():
    model = blueprint("googlenet", num_classes=3755)
    modules = (
        (192, (64, 96, 128, 16, 32, 32)),
        (256, (128, 128, 192, 32, 96, 64)),
        (480, (160, 112, 224, 24, 64, 64)),
        (512, (256, 160, 320, 32, 128, 128)),
    )
    expected = _conv(7, 1, 64) + _conv(1, 64, 64) + _conv(3, 64, 192)
    expected += sum(_module(*module) for module in modules)
    expected += 833 * 1024 + 1025 * 3755
    assert model.count_params() == expected
    assert model.get_layer(FEATURE_MAP).output.shape == (None, 7, 7, 832)
    # Zhong et al. 2015, as Melnyk et al. 2018 quote it: 27.7 MB
    assert abs(4 * expected / 2**20 - 27.7) < 2.77


def test_improved_googlenet_is_normalised_and_residual():
    model = blueprint("improved_googlenet", num_classes=9, image_shape=(64, 64, 1))
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Add") == 4 and kinds.count("BatchNormalization") == 3 + 4 * 8
    assert not any(
        layer.kernel_size == (5, 5)
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    )


def test_compact_nets_parameters_by_hand():
    model = blueprint("compact_net", num_classes=6763)
    widths, before, expected = (32, 96, 192, 320), 1, 0
    for filters in widths:
        expected += _conv(3, before, filters, False) + _conv(3, filters, filters, False)
        expected += 2 * 4 * filters
        before = filters
    expected += 4 * 4 * 320 + 4 * 320 + 321 * 6763
    assert model.count_params() == expected
    assert model.get_layer(FEATURE_MAP).output.shape == (None, 4, 4, 320)


def test_further_blocks_begin_as_if_they_were_not_there():
    few = create_model("compact_net", num_classes=5, width=8)
    more = create_model("compact_net", num_classes=5, width=8, blocks=[1, 1, 1, 2])
    assert len(more.weights) == len(few.weights) + 5
    known = {v.path: v for v in few.weights}
    for variable in more.weights:
        if variable.path in known:
            variable.assign(known[variable.path])
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1), np.uint8)
    outputs = [model.predict_on_batch(images)[MAIN_OUTPUT] for model in (more, few)]
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_what_cannot_be_built_says_why():
    for name, arguments, message in (
        ("googlenet", {"image_shape": (8, 8, 1)}, "16×16"),
        ("googlenet", {"width": 4}, "width"),
        ("compact_net", {"blocks": 0}, "blocks"),
        ("compact_net", {"blocks": [1, 1]}, "at least 1"),
        ("alexnet", {"units": 0}, "units"),
        ("alexnet", {"image_shape": (31, 64, 1)}, "32×32"),
    ):
        with pytest.raises(ValueError, match=message):
            blueprint(name, num_classes=5, **arguments)
