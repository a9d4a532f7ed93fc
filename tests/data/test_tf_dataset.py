import itertools

import numpy as np
import pytest

from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.loader import Loader
from hccr_tf.data.loading.preprocessing import Preprocessing

tf = pytest.importorskip("tensorflow")

from hccr_tf.data.loading.tf_dataset import tf_dataset  # noqa: E402

NAMES = ["aux_output1", "main_output"]


@pytest.fixture
def reader(sample_store):
    order = {"shuffle": True, "seed": 7, "augmentation": RandomAffine(0.1, 0.05)}
    return Loader(sample_store, "train", Preprocessing(24), 50, **order)


def assert_same(elements, batches):
    elements, batches = list(elements), list(batches)
    assert len(elements) == len(batches) > 0
    for (images, labels), batch in zip(elements, batches, strict=True):
        np.testing.assert_array_equal(images, batch.images)
        assert sorted(labels) == NAMES
        for name in NAMES:
            np.testing.assert_array_equal(labels[name], batch.labels)


def test_element_types_and_options(reader):
    options = tf_dataset(reader, NAMES).options()
    policy = options.experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.OFF  # one Python loader has no files
    assert options.autotune.enabled is False
    images, labels = tf_dataset(reader, NAMES).element_spec
    assert (images.dtype, images.shape.as_list()) == (tf.uint8, [None, 24, 24, 1])
    assert {n: (s.dtype, s.shape.as_list()) for n, s in labels.items()} == dict.fromkeys(
        NAMES, (tf.int32, [None])
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_every_pass_over_the_dataset_is_the_same(reader, workers):
    dataset = tf_dataset(reader, NAMES, epoch=3, workers=workers)
    for _ in range(2):
        assert_same(dataset.as_numpy_iterator(), reader.batches(3))


def test_the_readers_batches_from_any_epoch_and_step(reader):
    steps = reader.steps_per_epoch
    for epoch, step in ((0, 0), (1, 0), (1, 3), (2, steps - 1)):
        resumed = tf_dataset(reader, NAMES, epoch=epoch, step=step, epochs=3 - epoch)
        want = [reader.batch(*divmod(i, steps)) for i in range(epoch * steps + step, 3 * steps)]
        assert len(want[-1].labels) < reader.batch_size
        assert_same(resumed.as_numpy_iterator(), want)
        assert int(resumed.cardinality()) == len(want)


def test_goes_on_without_end(reader):
    steps = reader.steps_per_epoch
    dataset = tf_dataset(reader, NAMES, epochs=None).take(steps + 2)
    assert_same(dataset.as_numpy_iterator(), itertools.islice(reader.batches(epochs=2), steps + 2))


def test_a_short_batch_is_filled_up_for_its_replicas(reader):
    last = list(tf_dataset(reader, NAMES, multiple_of=8))[-1]
    batch = reader.batch(0, reader.steps_per_epoch - 1)
    count = len(batch.labels)
    assert count % 8
    rows = np.arange(-(-count // 8) * 8) % count
    np.testing.assert_array_equal(last[0], batch.images[rows])
    np.testing.assert_array_equal(last[1][NAMES[0]], batch.labels[rows])


def test_an_error_names_its_cause(reader, monkeypatch):
    def gone(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(reader, "batch", gone)
    with pytest.raises(tf.errors.OpError, match="the disk is gone"):
        list(tf_dataset(reader, NAMES))
