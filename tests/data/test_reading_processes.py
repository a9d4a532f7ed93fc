"""Processes give the batches that threads give, and never leave anyone waiting."""

import gc
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hccr_tf.data.loading import reading_processes
from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.loader import Loader
from hccr_tf.data.loading.preprocessing import Preprocessing

pytestmark = pytest.mark.skipif(not reading_processes.are_possible(), reason="not on this system")

KINDS = {
    "plain": {},
    "augmented": {"augmentation": RandomAffine(0.1, 0.05)},
    "five crops": {"crops": "five"},
    "unprepared": {"padded_to": 90},
    "shard": {"shard": (1, 3), "augmentation": RandomAffine(0.1, 0.05)},
}


@pytest.fixture
def make_reader(sample_store):
    def make(batch_size=50, **arguments):
        preprocessing = Preprocessing(24, crop_ink=True, blur_kernel=7, blur_sigma=50.0)
        arguments = {"shuffle": True, "seed": 5, **arguments}
        return Loader(sample_store, "train", preprocessing, batch_size, **arguments)

    return make


def assert_all_equal(got, want):
    got, want = list(got), list(want)
    assert len(got) == len(want) > 0
    for ours, theirs in zip(got, want, strict=True):
        assert type(ours) is type(theirs)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_batches_in_the_same_order(make_reader, kind):
    reader = make_reader(**KINDS[kind])
    want = list(reader.batches(1, epochs=2))
    with reader.processes(2):
        # All are kept, more than there's shared memory for.
        kept = list(reader.batches(1, epochs=2))
        assert_all_equal(kept, want)
        first = reader.batch(1, 0)
    # And they stay when the processes have gone.
    del reader
    gc.collect()
    assert_all_equal([*kept, first], [*want, want[0]])


def test_memory_is_used_again_and_aligned(make_reader):
    reader = make_reader()
    places = set()
    with reader.processes(1):
        for _ in range(30):
            place = reader.batch(0, 0).images.__array_interface__["data"][0]
            assert place % 64 == 0
            places.add(place)
    assert len(places) <= 10


def test_sizes_keep_the_memory_too(make_reader):
    reader = make_reader(padded_to=90)
    with reader.processes(1):
        sizes = [reader.batch(0, step % 5).sizes for step in range(15)]
        for step, found in enumerate(sizes):
            np.testing.assert_array_equal(found, reader.batch(0, step % 5).sizes)


def test_an_error_in_a_process_is_told_and_the_next_batch_works(make_reader):
    reader = make_reader()
    want = reader.batch(0, 1)
    with reader.processes(1):
        right, reader.indices = reader.indices, reader.indices + 10**6
        with pytest.raises(ChildProcessError, match="(?s)failed:.*IndexError"):
            reader.batch(0, 0)
        reader.indices = right
        assert_all_equal([reader.batch(0, 1)], [want])


def test_a_process_that_is_killed_is_noticed(make_reader):
    reader = make_reader()
    with reader.processes(1):
        reader.batch(0, 0)
        reader._processes._processes[0].kill()
        start = time.monotonic()
        with pytest.raises(ChildProcessError, match="ended by"):
            for _ in range(100):
                reader.batch(0, 0)
        with pytest.raises(ChildProcessError, match="ended by"):
            reader.batch(0, 0)
        assert time.monotonic() - start < 20


def test_after_the_context_this_process_reads(make_reader):
    reader = make_reader()
    with reader.processes(2):
        assert reader.workers == 4
        inside = reader._processes
        batches = reader.batches(workers=3)
        got = [next(batches)]
    assert [p.poll() for p in inside._processes] == [0, 0]
    assert inside.prepare(reader.indices[:3], None) is None
    assert_all_equal([*got, *batches], reader.batches())


def test_processes_end_with_the_one_that_began_them(sample_store):
    program = f"""
import os
from hccr_tf import Loader, Preprocessing, Store
reader = Loader(Store({str(sample_store.path)!r}), "train", Preprocessing(16), 10)
context = reader.processes(2)
context.__enter__()
reader.batch(0, 0)
print(*(p.pid for p in reader._processes._processes), flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}/fd/0") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_tf_data_over_processes(make_reader):
    pytest.importorskip("tensorflow")
    from hccr_tf.data.loading.tf_dataset import tf_dataset

    reader = make_reader(augmentation=RandomAffine(0.1, 0.05))
    want = list(reader.batches(epochs=2))
    with reader.processes(2):
        elements = list(tf_dataset(reader, ["main_output"], epochs=2).as_numpy_iterator())
    for (images, labels), batch in zip(elements, want, strict=True):
        np.testing.assert_array_equal(images, batch.images)
        np.testing.assert_array_equal(labels["main_output"], batch.labels)


@pytest.mark.slow
def test_training_with_processes_gives_the_same_run(sample_store, tmp_path, monkeypatch):
    import pandas as pd

    from hccr_tf import get_recipe, train
    from hccr_tf.training import trainer as loop

    recipe = get_recipe("brick_model3").override(
        image_size=16, **{"model.num_bricks": 2, "model.width": 16}, batch_size=32, epochs=2
    )
    histories, begun = [], []
    start = Loader.processes
    monkeypatch.setattr(Loader, "processes", lambda r: begun.append(r.split) or start(r))
    for few in (10**6, 10):
        monkeypatch.setattr(loop, "MANY_IMAGES", few)
        run = train(recipe, sample_store, tmp_path / str(few))
        histories.append(pd.read_csv(run.history_path))
    assert begun == ["train"]
    names = [n for n in histories[0] if "accuracy" in n or "loss" in n]
    np.testing.assert_allclose(*(h[names] for h in histories), rtol=2e-3, atol=1e-5)


def test_a_stop_signal_to_all_leaves_them_at_work(make_reader):
    reader = make_reader()
    with reader.processes(2):
        # At once: those that haven't come to their first line of code must stand it too.
        for process in reader._processes._processes:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
        for step in range(8):
            reader.batch(0, step % 5)
        assert all(process.poll() is None for process in reader._processes._processes)
