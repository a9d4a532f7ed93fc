import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hccr_tf.data.store.splits import (
    DUPLICATE,
    TEST,
    TRAIN,
    VALIDATION,
    SplitRule,
    assign_splits,
    choose_mode,
    draw_per_class,
    group_images,
    hold_out_duplicates,
)

NUM = 4000


@pytest.fixture(scope="module")
def data():
    """Labels, groups (some images twice or more), source splits and writers."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 20, NUM).astype(np.int32)
    digests = rng.integers(0, 2**63, (NUM, 2)).astype(np.uint64)
    copies = rng.integers(0, NUM, 300)
    originals = rng.integers(0, NUM, 300)
    digests[copies], labels[copies] = digests[originals], labels[originals]
    source = np.where(rng.random(NUM) < 0.2, TEST, TRAIN).astype(np.int8)
    writers = rng.integers(0, 40, NUM).astype(np.int32)
    return labels, group_images(digests), source, writers


def assign(data, mode="auto", **rule):
    return assign_splits(*data, SplitRule(mode, **rule))


def singles(labels, source=-1, writers=-1):
    """The same of images that are all different."""
    count = len(labels)
    source, writers = np.broadcast_to(source, count), np.broadcast_to(writers, count)
    return labels.astype(np.int32), np.arange(count), source.astype(np.int8), writers


def assert_groups_on_one_side(split, groups):
    for group in np.flatnonzero(np.bincount(groups) > 1):
        sides = set(split[groups == group].tolist()) - {DUPLICATE}
        assert len(sides) == 1


def test_groups_are_numbered_by_first_occurrence():
    digests = np.array([[9, 1], [3, 3], [9, 1], [9, 2], [3, 3], [0, 0]], np.uint64)
    assert group_images(digests).tolist() == [0, 1, 0, 2, 1, 3]
    assert group_images(np.zeros((1, 2), np.uint64)).tolist() == [0]


def test_auto_takes_what_the_samples_have():
    some, none = np.array([0, -1]), np.array([-1, -1])
    all_known = np.array([0, 2])
    assert choose_mode("auto", all_known, none) == "source"
    assert choose_mode("auto", some, all_known) == "writer"
    assert choose_mode("auto", some, some) == "shuffle"
    assert choose_mode("shuffle", all_known, all_known) == "shuffle"
    with pytest.raises(ValueError, match="1 of 2 samples come without a train or test split"):
        choose_mode("source", some, all_known)
    with pytest.raises(ValueError, match="2 of 2 samples come without a writer"):
        choose_mode("writer", all_known, none)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "random"}, "No split is called 'random'. There are: auto, source"),
        ({"validation_mode": "class"}, "No validation split is called 'class'. There are: auto, "),
        ({"test_fraction": 1.01}, "must be from 0 to 1, not 1.01"),
        ({"validation_fraction": -0.1}, "at least 0 and below 1, not -0.1"),
        ({"validation_fraction": 1}, "at least 0 and below 1, not 1"),
    ],
)
def test_impossible_rules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SplitRule(**arguments)


@pytest.mark.parametrize("mode", ["source", "writer", "shuffle"])
def test_every_mode_draws_its_shares_by_the_seed(data, mode):
    split = assign(data, mode, seed=3)
    assert split.dtype == np.uint8
    assert (split != assign(data, mode, seed=4)).any()
    counts = np.bincount(split, minlength=4) / NUM
    assert counts[TEST] == pytest.approx(0.2, abs=0.03)
    assert counts[VALIDATION] == pytest.approx(0.04, abs=0.015)
    assert (counts[DUPLICATE] == 0) == (mode == "shuffle")


def test_source_keeps_the_test_copy(data):
    _, groups, source, _ = data
    split = assign(data, "source")
    np.testing.assert_array_equal(split == TEST, source == TEST)
    tested = np.isin(groups, groups[source == TEST])
    np.testing.assert_array_equal(split == DUPLICATE, tested & (source == TRAIN))


def test_a_validation_split_of_the_source_is_kept(data):
    labels, groups, source, writers = data
    source = np.where(np.arange(NUM) % 50, source, VALIDATION)
    split = assign((labels, groups, source, writers), "source")
    assert set(np.flatnonzero(split == VALIDATION)) <= set(range(0, NUM, 50))
    with pytest.raises(ValueError, match="has a validation split of its own; leave"):
        assign((labels, groups, source, writers), "source", validation_mode="shuffle")


def test_writers_stand_on_one_side(data):
    split, writers = assign(data, "writer"), data[3]
    sides = [set(writers[split == code].tolist()) for code in (TRAIN, VALIDATION, TEST)]
    assert [len(side) for side in sides] == [30, 2, 8]
    assert len(set.union(*sides)) == 40


def test_few_writers():
    for writers, expected in ((1, [30, 0, 0]), (2, [15, 0, 15]), (3, [10, 10, 10])):
        split = assign(singles(np.zeros(30), writers=np.arange(30) % writers), "writer")
        assert np.bincount(split, minlength=3).tolist() == expected


def test_shares_hold_within_every_class(data):
    split = assign(data, "shuffle", test_fraction=0.3)
    for label in range(20):
        share = (split[data[0] == label] == TEST).mean()
        assert share == pytest.approx(0.3, abs=0.03)


def test_small_classes_are_right_on_average():
    # 10 samples a class: 5 % are half a sample, so that half of the classes give one.
    split = assign(singles(np.repeat(np.arange(400), 10), source=TRAIN), "source")
    per_class = (split == VALIDATION).reshape(400, 10).sum(axis=1)
    assert set(per_class.tolist()) == {0, 1}
    assert per_class.mean() == pytest.approx(0.5, abs=0.1)


def test_a_class_keeps_something_to_train_on():
    split = assign(singles(np.arange(50)), "shuffle", test_fraction=0.9)
    assert (split == TRAIN).all()


@settings(deadline=None)
@given(
    st.lists(st.tuples(*(st.integers(0, n) for n in (3, 9, 2, 4))), min_size=1, max_size=60),
    st.sampled_from(["source", "writer", "shuffle"]),
    st.sampled_from(["auto", "shuffle"]),
    st.floats(0, 1),
    st.floats(0, 0.9),
    st.integers(0, 9),
)
def test_any_samples_keep_copies_on_one_side(rows, mode, validation_mode, test, validation, seed):
    labels, images, source, writers = np.array(rows).T
    source = np.minimum(source, TEST).astype(np.int8)
    if validation_mode != "auto":
        source[source == VALIDATION] = TRAIN  # A source's own validation excludes another.
    groups = group_images(np.stack([images, images], axis=1).astype(np.uint64))
    samples = (labels, groups, source, writers)
    rule = SplitRule(mode, seed, test, validation, validation_mode)
    split = assign_splits(*samples, rule)
    assert_groups_on_one_side(split, groups)
    # Held out are only copies of what another split has.
    assert np.isin(groups[split == DUPLICATE], groups[split != DUPLICATE]).all()
    np.testing.assert_array_equal(split, assign_splits(*samples, rule))


@pytest.mark.parametrize("mode", ["writer", "shuffle"])
def test_nothing_or_all_may_be_tested(data, mode):
    assert (assign(data, mode, test_fraction=0.0, validation_fraction=0.0) == TRAIN).all()
    assert (assign(data, mode, test_fraction=1.0) == TEST).all()


def test_hold_out_prefers_test_to_validation_to_training():
    groups = np.array([0, 0, 0, 1, 1, 2, 2, 3])
    split = np.array([TRAIN, VALIDATION, TEST, TRAIN, VALIDATION, TRAIN, TRAIN, TEST], np.uint8)
    before = split.copy()
    held_out = [DUPLICATE, DUPLICATE, TEST, DUPLICATE, VALIDATION, TRAIN, TRAIN, TEST]
    assert hold_out_duplicates(split, groups).tolist() == held_out
    np.testing.assert_array_equal(split, before)


def test_validation_can_be_drawn_at_random_beside_a_test_set_by_writer(data):
    labels, groups, source, writers = data
    split = assign(data, "writer", validation_fraction=0.2, validation_mode="shuffle")
    np.testing.assert_array_equal(split == TEST, assign(data, "writer") == TEST)
    assert set(writers[split == TRAIN]) & set(writers[split == VALIDATION])
    assert not set(writers[split == TEST]) & set(writers[split != TEST])
    unknown = (labels, groups, source, np.full(NUM, -1))
    with pytest.raises(ValueError, match="come without a writer"):
        assign(unknown, "shuffle", validation_mode="writer")


# === Subsets ===


def test_some_of_each_class_and_more_add_to_fewer():
    labels = np.random.default_rng(0).integers(0, 7, 300).astype(np.int32)
    five, nine = (draw_per_class(labels, number, seed=3) for number in (5, 9))
    assert np.bincount(labels[five]).tolist() == [5] * 7
    assert set(five) < set(nine)
    assert (np.diff(nine) > 0).all()
    assert draw_per_class(labels, 5, seed=4).tolist() != five.tolist()
    # Drawn among all of a class, not from its begin.
    assert five.max() > 200


def test_a_small_class_is_taken_whole():
    labels = np.array([0, 1, 0, 2, 2, 2, 2], np.int32)
    assert draw_per_class(labels, 2, seed=0).tolist()[:3] == [0, 1, 2]
    assert len(draw_per_class(labels, 2, seed=0)) == 5
    assert draw_per_class(np.zeros(0, np.int32), 2, seed=0).tolist() == []
