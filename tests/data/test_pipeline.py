import itertools

import numpy as np
import pytest

from hccr_tf.data.augmentation import RandomAffine
from hccr_tf.data.batches import BatchReader
from hccr_tf.data.preprocessing import Preprocessing

tf = pytest.importorskip("tensorflow")

from hccr_tf.data.pipeline import tf_dataset  # noqa: E402

NAMES = ["aux_output1", "main_output"]


@pytest.fixture
def reader(sample_store):
    return BatchReader(
        sample_store,
        "train",
        Preprocessing(24),
        50,
        shuffle=True,
        seed=7,
        augmentation=RandomAffine(0.1, 0.05),
    )


def assert_same(elements, batches):
    elements, batches = list(elements), list(batches)
    assert len(elements) == len(batches) > 0
    for (images, labels), batch in zip(elements, batches, strict=True):
        np.testing.assert_array_equal(images, batch.images)
        assert sorted(labels) == NAMES
        for name in NAMES:
            np.testing.assert_array_equal(labels[name], batch.labels)


def test_element_types(reader):
    images, labels = tf_dataset(reader, NAMES).element_spec
    assert (images.dtype, images.shape.as_list()) == (tf.uint8, [None, 24, 24, 1])
    assert {n: (s.dtype, s.shape.as_list()) for n, s in labels.items()} == dict.fromkeys(
        NAMES, (tf.int32, [None])
    )


def test_the_readers_batches_in_the_readers_order(reader):
    dataset = tf_dataset(reader, NAMES, epochs=2)
    want = [reader.batch(e, s) for e in range(2) for s in range(reader.steps_per_epoch)]
    assert len(want[-1].labels) < len(want[0].labels)
    assert_same(dataset.as_numpy_iterator(), want)


def test_every_pass_over_the_dataset_is_the_same(reader):
    dataset = tf_dataset(reader, NAMES, epoch=3)
    for _ in range(2):
        assert_same(dataset.as_numpy_iterator(), reader.batches(3))


def test_goes_on_at_any_epoch_and_step(reader):
    through = list(tf_dataset(reader, NAMES, epochs=3).as_numpy_iterator())
    steps = reader.steps_per_epoch
    for epoch, step in ((1, 0), (1, 3), (2, steps - 1)):
        resumed = tf_dataset(reader, NAMES, epoch=epoch, step=step, epochs=3 - epoch)
        want = through[epoch * steps + step :]
        got = list(resumed.as_numpy_iterator())
        assert len(got) == len(want)
        for (images, labels), (other_images, other_labels) in zip(got, want, strict=True):
            np.testing.assert_array_equal(images, other_images)
            np.testing.assert_array_equal(labels[NAMES[0]], other_labels[NAMES[0]])


def test_goes_on_without_end(reader):
    steps = reader.steps_per_epoch
    dataset = tf_dataset(reader, NAMES, epochs=None).take(steps + 2)
    assert_same(dataset.as_numpy_iterator(), itertools.islice(reader.batches(epochs=2), steps + 2))


def test_is_not_cut_by_file(reader):
    options = tf_dataset(reader, NAMES).options()
    policy = options.experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.OFF
