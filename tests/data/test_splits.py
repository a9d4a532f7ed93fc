import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hccr_tf.data.store.splits import (
    DUPLICATE,
    TEST,
    TRAIN,
    VALIDATION,
    assign_splits,
    choose_mode,
    draw_per_class,
    group_images,
    hold_out_duplicates,
)

NUM = 4000


@pytest.fixture
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
    with pytest.raises(ValueError, match="unknown split mode 'random'; there are auto, source"):
        choose_mode("random", some, some)


@pytest.mark.parametrize("mode", ["source", "writer", "shuffle"])
def test_every_mode_keeps_groups_on_one_side_and_repeats(data, mode):
    labels, groups, source, writers = data
    split = assign_splits(labels, groups, source, writers, mode, seed=3)
    assert split.dtype == np.uint8
    assert_groups_on_one_side(split, groups)
    np.testing.assert_array_equal(
        split, assign_splits(labels, groups, source, writers, mode, seed=3)
    )
    assert (split != assign_splits(labels, groups, source, writers, mode, seed=4)).any()
    counts = np.bincount(split, minlength=4) / NUM
    assert counts[TEST] == pytest.approx(0.2, abs=0.03)
    assert counts[VALIDATION] == pytest.approx(0.04, abs=0.015)
    assert (counts[DUPLICATE] == 0) == (mode == "shuffle")


def test_source_keeps_the_test_copy(data):
    labels, groups, source, writers = data
    split = assign_splits(labels, groups, source, writers, "source")
    np.testing.assert_array_equal(split == TEST, source == TEST)
    tested = np.isin(groups, groups[source == TEST])
    np.testing.assert_array_equal(split == DUPLICATE, tested & (source == TRAIN))


def test_a_validation_split_of_the_source_is_kept(data):
    labels, groups, source, writers = data
    source = source.copy()
    source[::50] = VALIDATION
    split = assign_splits(labels, groups, source, writers, "source")
    assert set(np.flatnonzero(split == VALIDATION)) <= set(range(0, NUM, 50))


def test_writers_stand_on_one_side(data):
    labels, groups, source, writers = data
    split = assign_splits(labels, groups, source, writers, "writer")
    sides = [set(writers[split == code].tolist()) for code in (TRAIN, VALIDATION, TEST)]
    assert [len(side) for side in sides] == [30, 2, 8]
    assert len(set.union(*sides)) == 40


def test_few_writers():
    labels = np.zeros(30, np.int32)
    groups = np.arange(30, dtype=np.int32)
    none = np.full(30, -1, np.int8)
    for writers, expected in ((1, [30, 0, 0]), (2, [15, 0, 15]), (3, [10, 10, 10])):
        split = assign_splits(labels, groups, none, np.arange(30) % writers, "writer")
        assert np.bincount(split, minlength=3).tolist() == expected


def test_shares_hold_within_every_class(data):
    labels, groups, source, writers = data
    split = assign_splits(labels, groups, source, writers, "shuffle", test_fraction=0.3)
    for label in range(20):
        share = (split[labels == label] == TEST).mean()
        assert share == pytest.approx(0.3, abs=0.03)


def test_small_classes_are_right_on_average():
    # 10 samples a class: 5 % are half a sample, so that half of the classes give one.
    labels = np.repeat(np.arange(400, dtype=np.int32), 10)
    groups = np.arange(4000, dtype=np.int32)
    split = assign_splits(labels, groups, np.zeros(4000, np.int8), np.full(4000, -1), "source")
    per_class = (split == VALIDATION).reshape(400, 10).sum(axis=1)
    assert set(per_class.tolist()) == {0, 1}
    assert per_class.mean() == pytest.approx(0.5, abs=0.1)


def test_a_class_keeps_something_to_train_on():
    labels = np.arange(50, dtype=np.int32)
    groups = np.arange(50, dtype=np.int32)
    none = np.full(50, -1, np.int8)
    split = assign_splits(labels, groups, none, none, "shuffle", test_fraction=0.9)
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
    rule = (mode, seed, test, validation, validation_mode)
    split = assign_splits(labels, groups, source, writers, *rule)
    assert_groups_on_one_side(split, groups)
    # Held out are only copies of what another split has.
    assert np.isin(groups[split == DUPLICATE], groups[split != DUPLICATE]).all()
    np.testing.assert_array_equal(split, assign_splits(labels, groups, source, writers, *rule))


def test_fractions(data):
    labels, groups, source, writers = data
    for mode in ("writer", "shuffle"):
        split = assign_splits(labels, groups, source, writers, mode, 1, 0.0, 0.0)
        assert (split == TRAIN).all()
        split = assign_splits(labels, groups, source, writers, mode, 1, 1.0)
        assert (split == TEST).all()
    for bad in ({"test_fraction": 1.01}, {"validation_fraction": -0.1}, {"validation_fraction": 1}):
        with pytest.raises(ValueError, match="from 0 to 1, not 1.01|at least 0 and below 1, not"):
            assign_splits(labels, groups, source, writers, **bad)


def test_hold_out_prefers_test_to_validation_to_training():
    groups = np.array([0, 0, 0, 1, 1, 2, 2, 3])
    split = np.array([TRAIN, VALIDATION, TEST, TRAIN, VALIDATION, TRAIN, TRAIN, TEST], np.uint8)
    before = split.copy()
    assert hold_out_duplicates(split, groups).tolist() == [
        DUPLICATE,
        DUPLICATE,
        TEST,
        DUPLICATE,
        VALIDATION,
        TRAIN,
        TRAIN,
        TEST,
    ]
    np.testing.assert_array_equal(split, before)


def test_a_source_with_only_a_test_set():
    labels = np.zeros(10, np.int32)
    groups = np.arange(10, dtype=np.int32)
    split = assign_splits(labels, groups, np.full(10, TEST, np.int8), np.full(10, -1))
    assert (split == TEST).all()


def test_validation_can_be_drawn_at_random_beside_a_test_set_by_writer(data):
    labels, groups, source, writers = data
    by_writer = assign_splits(labels, groups, source, writers, "writer")
    split = assign_splits(
        labels,
        groups,
        source,
        writers,
        "writer",
        validation_fraction=0.2,
        validation_mode="shuffle",
    )
    np.testing.assert_array_equal(split == TEST, by_writer == TEST)
    shared = set(writers[split == TRAIN]) & set(writers[split == VALIDATION])
    assert shared
    assert not set(writers[split == TEST]) & set(writers[split != TEST])
    with pytest.raises(ValueError, match="unknown validation split 'class'; there are auto, "):
        assign_splits(labels, groups, source, writers, "writer", validation_mode="class")
    with pytest.raises(ValueError, match="come without a writer"):
        assign_splits(
            labels, groups, source, np.full(len(labels), -1), "shuffle", validation_mode="writer"
        )
    own = np.where(np.arange(len(labels)) % 3, TRAIN, VALIDATION).astype(np.int8)
    with pytest.raises(ValueError, match="has a validation split of its own; leave"):
        assign_splits(labels, groups, own, writers, "source", validation_mode="shuffle")


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
