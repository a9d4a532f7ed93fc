"""Networks without values stay so, and cost nothing."""

from hccr_tf.evaluation.complexity import count_macs
from hccr_tf.models import blueprint, create_model


def test_other_layers_do_not_give_it_values():
    model = blueprint("mrbc", num_classes=3, image_shape=(16, 16, 1), width=4)
    count_macs(model)
    # Its recurrent cell has Keras fill what it knows to be without values.
    other = create_model("mrbc_ir", num_classes=3, image_shape=(16, 16, 1), width=4)
    assert other.weights[0]._value is not None
    assert model.weights[0]._value is None
    assert [v.path for v in model.weights][0] == "block1_conv1/kernel"
