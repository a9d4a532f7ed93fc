import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hccr_tf.charset import Charset
from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.loader import Loader, num_reading_threads
from hccr_tf.data.loading.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(24, blur_kernel=3, blur_sigma=20.0)
AUGMENTATION = RandomAffine(amount=0.1, shift=0.05)


@pytest.fixture
def make_reader(sample_store):
    def make(split="train", batch_size=32, preprocessing=PREPROCESSING, **arguments):
        return Loader(sample_store, split, preprocessing, batch_size, **arguments)

    return make


@pytest.fixture
def training_reader(make_reader):
    return make_reader(shuffle=True, seed=5, augmentation=AUGMENTATION)


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def assert_all_equal(got, want):
    got, want = list(got), list(want)
    assert len(got) == len(want) > 0
    for a, b in zip(got, want, strict=True):
        assert_equal(a, b)


# === Order ===


def test_order_is_a_function_of_seed_and_epoch(make_reader):
    def order(seed, epoch):
        return make_reader(shuffle=True, seed=seed).order(epoch)

    first = order(3, 2)
    np.testing.assert_array_equal(order(3, 2), first)
    assert sorted(first.tolist()) == list(range(len(first)))
    for seed, epoch in ((3, 1), (3, 3), (2, 3), (4, 2)):
        # Two random orders agree in about one place.
        assert (order(seed, epoch) == first).sum() < min(20, len(first) / 2)


def test_an_epoch_holds_every_sample_once(training_reader, make_reader, sample_store):
    for epoch in (0, 1):
        read = np.concatenate([b.indices for b in training_reader.batches(epoch)])
        assert read.dtype == np.int64
        assert sorted(read.tolist()) == sample_store.indices("train").tolist() != read.tolist()
    unshuffled = np.concatenate([b.indices for b in make_reader("test").batches(3)])
    np.testing.assert_array_equal(unshuffled, sample_store.indices("test"))


def test_passes_are_epochs_of_one_pass_behind_one_another(make_reader):
    once, thrice = (make_reader(shuffle=True, seed=3, passes=n) for n in (1, 3))
    for epoch in (0, 1):
        orders = [once.order(3 * epoch + number) for number in range(3)]
        np.testing.assert_array_equal(thrice.order(epoch), np.concatenate(orders))
        batches = list(thrice.batches(epoch))
        assert len(batches) == thrice.steps_per_epoch < 3 * once.steps_per_epoch
        assert sum(len(batch.labels) for batch in batches) == 3 * len(once) == 3 * len(thrice)


def test_a_batch_is_what_the_store_holds(make_reader, sample_store):
    batch = make_reader("test", 10).batch(0, 2)
    assert (batch.images.shape, batch.images.dtype) == ((10, 24, 24, 1), np.uint8)
    assert (batch.labels.dtype, batch.indices.dtype) == (np.int32, np.int64)
    np.testing.assert_array_equal(batch.indices, sample_store.indices("test")[20:30])
    np.testing.assert_array_equal(batch.labels, sample_store.labels[batch.indices])
    for image, index in zip(batch.images, batch.indices, strict=True):
        np.testing.assert_array_equal(image, PREPROCESSING.apply(sample_store.image(index)))


def test_the_last_batch_is_what_is_left(make_reader, sample_store):
    num_samples = len(sample_store.indices("train"))
    reader = make_reader(batch_size=num_samples - 7)
    assert (len(reader), reader.steps_per_epoch) == (num_samples, 2)
    assert [len(b.labels) for b in reader.batches()] == [num_samples - 7, 7]
    assert [len(b.images) for b in reader.batches()] == [num_samples - 7, 7]
    assert make_reader(batch_size=num_samples).steps_per_epoch == 1
    # A shard of a short batch may be empty.
    size = (num_samples - 1) // 2 * 2
    reader = make_reader(batch_size=size, augmentation=AUGMENTATION)
    batch = reader.batch(0, 1, (1, 2))
    assert (batch.images.shape, len(batch.labels)) == ((0, 24, 24, 1), 0)


@pytest.mark.parametrize("step", [-1, 99])
def test_there_are_no_other_steps(training_reader, step):
    with pytest.raises(IndexError, match=f"steps; there is no {step}"):
        training_reader.batch(0, step)


# === Reading on ===


def test_reading_on_equals_reading_through(training_reader):
    steps = training_reader.steps_per_epoch
    through = list(training_reader.batches(epochs=3))
    assert len(through) == 3 * steps > 20
    for epoch, step in ((0, 1), (1, 0), (1, steps - 1), (2, 4)):
        resumed = training_reader.batches(epoch, step, epochs=3 - epoch)
        assert_all_equal(resumed, through[epoch * steps + step :])
    endless = training_reader.batches(1, 2, epochs=None)
    assert_all_equal(itertools.islice(endless, 2 * steps - 2), through[steps + 2 :])
    endless.close()


def test_the_number_of_threads_changes_nothing(training_reader):
    want = [training_reader.batch(0, s) for s in range(training_reader.steps_per_epoch)]
    for workers in (1, 2, 7):
        assert_all_equal(training_reader.batches(workers=workers), want)


def test_an_error_in_a_thread_reaches_the_reader(training_reader, monkeypatch):
    def broken(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(training_reader, "_prepare", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        list(training_reader.batches())


# === Shards ===


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("tta", ["none", "five_crops"])
def test_shards_together_are_the_whole_batch(make_reader, count, tta):
    augmentation = AUGMENTATION if tta == "none" else None
    arguments = {"shuffle": True, "seed": 5, "augmentation": augmentation, "tta": tta}
    whole = make_reader(**arguments)
    per_sample = 5 if tta == "five_crops" else 1
    for step in (0, whole.steps_per_epoch - 1):
        want = whole.batch(1, step)
        parts = [whole.batch(1, step, (i, count)) for i in range(count)]
        rows = whole.batch_size // count
        images = want.images.reshape(-1, per_sample, *want.images.shape[1:])
        for i, part in enumerate(parts):
            np.testing.assert_array_equal(part.labels, want.labels[i * rows :][:rows])
            np.testing.assert_array_equal(part.indices, want.indices[i * rows :][:rows])
            np.testing.assert_array_equal(
                part.images.reshape(-1, *images.shape[1:]), images[i * rows :][:rows]
            )
        assert sum(len(p.labels) for p in parts) == len(want.labels)


# === Charset ===


def test_a_permuted_charset_permutes_the_labels(make_reader, sample_store):
    text = sample_store.charset.text
    other = Charset.from_text("X" + text[::-1])
    own, permuted = make_reader("test").batch(0, 0), make_reader("test", charset=other).batch(0, 0)
    np.testing.assert_array_equal(permuted.images, own.images)
    np.testing.assert_array_equal(permuted.labels, len(text) - own.labels)
    assert [other.char(i) for i in permuted.labels] == [text[i] for i in own.labels]


def test_a_charset_that_lacks_characters_is_refused_with_them(make_reader, sample_store):
    text = sample_store.charset.text
    with pytest.raises(ValueError, match=f"lacks 2 of the store .*: {text[0]} {text[3]}"):
        make_reader(charset=Charset.from_text(text[1:3] + text[4:]))


# === Crops ===


def test_a_samples_five_crops_follow_one_another(make_reader, sample_store):
    reader = make_reader("test", 4, tta="five_crops")
    batch = reader.batch(0, 1)
    assert batch.images.shape == (20, 24, 24, 1)
    assert batch.labels.shape == batch.indices.shape == (4,)
    for i, index in enumerate(batch.indices):
        want = PREPROCESSING.apply_views([sample_store.image(index)], "five_crops")
        np.testing.assert_array_equal(batch.images[5 * i : 5 * i + 5], want)


# === Augmentation ===


def test_augmentation_is_a_function_of_seed_epoch_and_step():
    first = AUGMENTATION.draw(1, 2, 3, 64)
    assert first.shape == (64, 2, 3)
    np.testing.assert_array_equal(AUGMENTATION.draw(1, 2, 3, 64), first)
    for place in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert (AUGMENTATION.draw(*place, 64) != first).all()
    assert (np.diff(first.reshape(64, -1), axis=0) != 0).all()


def test_augmentation_has_the_spread_it_is_given():
    maps = RandomAffine(amount=0.1, shift=0.02).draw(0, 0, 0, 4000) - np.eye(2, 3)
    np.testing.assert_allclose(maps.std(axis=0), [[0.1, 0.1, 0.02]] * 2, rtol=0.05)
    np.testing.assert_allclose(maps.mean(axis=0), 0, atol=0.01)
    assert abs(maps[:, :, :2]).max() <= 0.3 + 1e-9
    assert abs(maps[:, :, 2]).max() <= 0.06 + 1e-9


def test_no_augmentation_is_the_identity():
    assert not RandomAffine()
    np.testing.assert_array_equal(RandomAffine().draw(1, 2, 3, 5), [np.eye(2, 3)] * 5)


def test_augmentation_changes_images_and_nothing_else(training_reader, make_reader, sample_store):
    plain = make_reader(shuffle=True, seed=5).batch(2, 1)
    augmented = training_reader.batch(2, 1)
    np.testing.assert_array_equal(augmented.indices, plain.indices)
    np.testing.assert_array_equal(augmented.labels, plain.labels)
    changed = (augmented.images != plain.images).any(axis=(1, 2, 3))
    assert changed.mean() > 0.9
    affine = AUGMENTATION.draw(5, 2, 1, len(plain.labels))
    last = PREPROCESSING.apply(sample_store.image(plain.indices[-1]), affine=affine[-1])
    np.testing.assert_array_equal(augmented.images[-1], last)


@pytest.mark.parametrize("settings", [{"amount": -0.1}, {"amount": 0.5}, {"shift": 0.5}])
def test_augmentation_out_of_range_is_refused(settings):
    with pytest.raises(ValueError, match=r"lie in \[0, 0.5\)"):
        RandomAffine(**settings)


# === Threads and processes ===


def test_there_are_a_few_reading_threads():
    assert 2 <= num_reading_threads() <= 8


@pytest.mark.integration
@pytest.mark.parametrize(
    "arguments", [{"augmentation": AUGMENTATION}, {"tta": "five_crops"}], ids=["maps", "crops"]
)
def test_processes_prepare_the_same(make_reader, arguments):
    reader = make_reader(shuffle=True, seed=5, **arguments)
    want = list(reader.batches(3))
    with reader.processes(2):
        assert_all_equal(reader.batches(3), want)
    assert_all_equal(reader.batches(3), want)


@pytest.mark.integration
def test_an_error_in_a_process_reaches_the_reader(make_reader):
    reader = make_reader()
    reader.dataset = SimpleNamespace(path=Path("gone"), at_epoch=lambda indices, epoch: indices)
    with reader.processes(1), pytest.raises(FileNotFoundError, match="gone"):
        reader.batch(0, 0)


def test_some_of_each_class(make_reader):
    whole, reader = make_reader(), make_reader(per_class=3)
    assert np.bincount(reader.labels).tolist() == [3] * 15
    assert len(reader) == 45 and set(reader.indices) < set(whole.indices)
    batches = [reader.batch(0, step) for step in range(reader.steps_per_epoch)]
    assert sorted(np.concatenate([b.indices for b in batches])) == reader.indices.tolist()


# === Refusals ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is at least 1"),
        ({"tta": "ten"}, "tta is one of none, five_crops, stretches; not 'ten'"),
        ({"split": "dev"}, "no samples in split 'dev'"),
        ({"per_class": 0}, "per_class is at least 1, not 0"),
    ],
)
def test_refusals(make_reader, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_reader(**arguments)
