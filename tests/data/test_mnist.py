import gzip
import io
import struct
import zipfile

import numpy as np
import pytest

from hccr_tf.charset import Charset
from hccr_tf.data.sources import discovery as sources_module
from hccr_tf.data.sources import mnist
from hccr_tf.data.sources.records import Sample, Skipped
from hccr_tf.data.store.prepare import prepare

TRAIN, TEST = 30, 20
NAMES = {"train": "train", "test": "t10k"}


@pytest.fixture
def arrays(make_image):
    """Small arrays as Keras names them: every image another, each label three or two times."""
    found = {}
    for split, count, seed in (("train", TRAIN, 0), ("test", TEST, 1000)):
        images = [make_image(seed + i, 28, 28) for i in range(count)]
        found[f"x_{split}"] = np.stack(images)
        found[f"y_{split}"] = (np.arange(count) * 7 % 10).astype(np.uint8)
    return found


def idx(array: np.ndarray, count: int | None = None) -> bytes:
    """An IDX file; `count` is what its header claims in place of the truth."""
    shape = (len(array) if count is None else count, *array.shape[1:])
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *shape)
    return header + array.tobytes()


def idx_files(arrays, mark="-", packed=False) -> dict[str, bytes]:
    """The four files by name."""
    files = {}
    for split, part in NAMES.items():
        files[f"{part}-images{mark}idx3-ubyte"] = idx(arrays[f"x_{split}"])
        files[f"{part}-labels{mark}idx1-ubyte"] = idx(arrays[f"y_{split}"])
    if packed:
        files = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in files.items()}
    return files


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def pack(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def npz(arrays, compressed=True) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def parted(records):
    return (
        [r for r in records if isinstance(r, Sample)],
        [r for r in records if isinstance(r, Skipped)],
    )


def check(records, arrays):
    """Checks that all is there, inverted, with the right labels and splits; returns the ids."""
    samples, quarantined = parted(records)
    assert not quarantined
    assert len(samples) == TRAIN + TEST
    for split in NAMES:
        some = [s for s in samples if s.split == split]
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        assert [s.character for s in some] == [str(label) for label in y]
        assert np.array_equal(np.stack([s.image for s in some]), 255 - x)
        assert [s.source.rsplit("#")[1] for s in some] == [str(i) for i in range(len(y))]
    assert all(s.writer is None for s in samples)
    ids = {s.source for s in samples}
    assert len(ids) == len(samples)
    return ids


# === What is whole ===


@pytest.mark.parametrize("compressed", [True, False])
def test_keras_npz(tmp_path, arrays, read_records, compressed):
    data = npz(arrays, compressed)
    write(tmp_path, {"mnist.npz": data})
    ids = check(read_records(tmp_path / "mnist.npz"), arrays)
    assert {"mnist.npz/x_train.npy#17", "mnist.npz/x_test.npy#3"} <= ids
    ids = check(read_records(write(tmp_path / "sets", {"fashion.npz": data})), arrays)
    assert "sets/fashion.npz/x_train.npy#17" in ids
    ids = check(read_records(pack(tmp_path / "a.zip", {"in/mnist.npz": data})), arrays)
    assert "a.zip/in/mnist.npz/x_train.npy#17" in ids


def test_labels_of_other_whole_numbers(tmp_path, arrays, read_records):
    for kind in (np.int64, ">i2", np.uint16):
        others = {n: a.astype(kind) if n[0] == "y" else a for n, a in arrays.items()}
        write(tmp_path, {"mnist.npz": npz(others)})
        check(read_records(tmp_path / "mnist.npz"), arrays)


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_in_folders_and_archives(tmp_path, arrays, read_records, mark, packed):
    files = idx_files(arrays, mark, packed)
    end = f"train-images{mark}idx3-ubyte{'.gz' if packed else ''}#17"
    ids = check(read_records(write(tmp_path / "mnist", files)), arrays)
    assert f"mnist/{end}" in ids
    ids = check(read_records(write(tmp_path / "up" / "raw", files).parent), arrays)
    assert f"up/raw/{end}" in ids
    ids = check(read_records(pack(tmp_path / "root.zip", files)), arrays)
    assert f"root.zip/{end}" in ids
    inner = {f"deep/raw/{name}": data for name, data in files.items()}
    ids = check(read_records(pack(tmp_path / "deep.zip", inner)), arrays)
    assert f"deep.zip/deep/raw/{end}" in ids
    nested = {"inner.zip": (tmp_path / "root.zip").read_bytes()}
    ids = check(read_records(pack(tmp_path / "outer.zip", nested)), arrays)
    assert f"outer.zip/inner.zip/{end}" in ids


def test_labels_in_another_form_and_files_one_by_one(tmp_path, arrays, read_records):
    plain, packed = idx_files(arrays, "."), idx_files(arrays, "-", packed=True)
    files = {n: d for n, d in plain.items() if "images" in n}
    files |= {n: d for n, d in packed.items() if "labels" in n}
    folder = write(tmp_path / "mnist", files)
    check(read_records(folder), arrays)
    samples, _ = parted(read_records(folder / "t10k-images.idx3-ubyte"))
    assert [s.source for s in samples] == [f"t10k-images.idx3-ubyte#{i}" for i in range(TEST)]
    assert read_records(folder / "t10k-labels-idx1-ubyte.gz") == []


def test_of_several_forms_one_is_read(tmp_path, arrays, read_records):
    forms = [idx_files(arrays), idx_files(arrays, "."), idx_files(arrays, packed=True)]
    files = {name: data for form in forms for name, data in form.items()}
    for source in (write(tmp_path / "raw", files), pack(tmp_path / "raw.zip", files)):
        samples, quarantined = parted(read_records(source))
        check(samples, arrays)
        assert {s.source.split("/")[1].split("#")[0] for s in samples} == {
            "train-images-idx3-ubyte",
            "t10k-images-idx3-ubyte",
        }
        reasons = {q.reason for q in quarantined}
        assert reasons == {"another form of the file, beside it, is read"}
        assert sorted(q.source.split("/")[1] for q in quarantined) == sorted({*forms[1], *forms[2]})


def test_two_sets_beside_each_other_keep_their_own_labels(tmp_path, arrays, read_records):
    other = {n: (9 - a if n[0] == "y" else a) for n, a in arrays.items()}
    files = {f"mnist/{n}": d for n, d in idx_files(arrays).items()}
    files |= {f"fashion/{n}": d for n, d in idx_files(other).items()}
    samples, quarantined = parted(read_records(pack(tmp_path / "both.zip", files)))
    assert not quarantined
    check([s for s in samples if "/mnist/" in s.source], arrays)
    check([s for s in samples if "/fashion/" in s.source], other)


def test_images_of_other_sizes(tmp_path, read_records, make_image):
    x = np.stack([make_image(i, 5, 7) for i in range(4)])
    y = np.arange(4, dtype=np.uint8)
    write(tmp_path, {"train-images-idx3-ubyte": idx(x), "train-labels-idx1-ubyte": idx(y)})
    samples, _ = parted(read_records(tmp_path))
    assert np.array_equal(np.stack([s.image for s in samples]), 255 - x)


def test_reading_by_blocks(tmp_path, arrays, read_records, monkeypatch):
    monkeypatch.setattr(mnist, "_BLOCK", 3000)  # Three images and a rest.
    monkeypatch.setattr(mnist, "_PIECE", 1000)
    write(tmp_path / "npz", {"mnist.npz": npz(arrays)})
    check(read_records(tmp_path / "npz"), arrays)
    check(read_records(write(tmp_path / "idx", idx_files(arrays, packed=True))), arrays)


# === Stores ===


@pytest.mark.parametrize("kind", ["npz", "idx", "zip"])
def test_a_store_of_it(tmp_path, arrays, kind, monkeypatch):
    source = {
        "npz": lambda: write(tmp_path, {"mnist.npz": npz(arrays)}) / "mnist.npz",
        "idx": lambda: write(tmp_path / "MNIST", idx_files(arrays, packed=True)),
        "zip": lambda: pack(tmp_path / "mnist.zip", idx_files(arrays)),
    }[kind]()
    monkeypatch.setattr(sources_module, "TASK_BYTES", 1)  # Each file another task.
    stores = [prepare([source], tmp_path / f"{n}", workers=n) for n in (1, 2)]
    store = stores[0]
    contents = [{file.name: file.read_bytes() for file in sorted(s.path.iterdir())} for s in stores]
    assert contents[0] == contents[1]
    store.verify()
    assert store.charset == Charset.named("digits")
    assert (len(store), len(store.indices("test"))) == (TRAIN + TEST, TEST)
    assert store.manifest["quarantined"]["count"] == 0
    assert store.manifest["writers"]["num_writers"] == 0
    assert store.manifest["known_sets"]["sets"] == [["mnist", "all"]]
    by_id = {store.sample_id(i): i for i in range(len(store))}
    for split, part in NAMES.items():
        for i, label in enumerate(arrays[f"y_{split}"]):
            end = f"x_{split}.npy" if kind == "npz" else f"{part}-images-idx3-ubyte"
            end += ".gz" if kind == "idx" else ""
            place = by_id[f"{source.name}/{end}#{i}"]
            assert store.labels[place] == label
            assert np.array_equal(store.image(place), 255 - arrays[f"x_{split}"][i])


def test_a_charset_leaves_out_classes(tmp_path, arrays):
    write(tmp_path, {"mnist.npz": npz(arrays)})
    store = prepare([tmp_path / "mnist.npz"], tmp_path / "odd", charset=Charset.from_text("97531"))
    assert len(store) == (TRAIN + TEST) // 2
    labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    assert [store.charset.char(i) for i in store.labels] == [str(y) for y in labels if y % 2]


def test_a_file_of_which_nothing_is_read_is_an_error_that_says_why(tmp_path, arrays):
    write(tmp_path, {"other.npz": npz({"images": arrays["x_train"]})})
    with pytest.raises(ValueError, match="no arrays x_train, y_train, x_test, y_test"):
        prepare([tmp_path / "other.npz"], tmp_path / "out")
    write(tmp_path, {"train-images-idx3-ubyte": idx(arrays["x_train"])})
    with pytest.raises(ValueError, match="labels file is missing beside the images"):
        prepare([tmp_path / "train-images-idx3-ubyte"], tmp_path / "out")


# === What is damaged: IDX ===


def read_train(tmp_path, read_records, images, labels, packed=False):
    """Reads a training set and says what was quarantined as (file, offset, bytes, reason)."""
    end = ".gz" if packed else ""
    folder = tmp_path / "set"
    files = {f"train-images-idx3-ubyte{end}": images, f"train-labels-idx1-ubyte{end}": labels}
    write(folder, {name: data for name, data in files.items() if data is not None})
    samples, quarantined = parted(read_records(folder))
    assert all(q.source.startswith("set/train-") for q in quarantined)
    return samples, [(q.source[10:16], q.offset, q.num_bytes, q.reason) for q in quarantined]


def test_a_truncated_images_file_keeps_its_whole_images(tmp_path, arrays, read_records):
    x, y = arrays["x_train"], arrays["y_train"]
    data = idx(x)[: 16 + 12 * 784 + 100]
    samples, faults = read_train(tmp_path, read_records, data, idx(y))
    assert np.array_equal(np.stack([s.image for s in samples]), 255 - x[:12])
    offset = 16 + 12 * 784
    assert faults == [("images", offset, 18 * 784, "file ends before its last image")]


def test_a_truncated_gz_keeps_what_it_has(tmp_path, arrays, read_records):
    x, y = arrays["x_train"], arrays["y_train"]
    data = gzip.compress(idx(x), mtime=0)[:-4000]
    samples, faults = read_train(
        tmp_path, read_records, data, gzip.compress(idx(y), mtime=0), packed=True
    )
    assert 20 <= len(samples) < 30
    assert np.array_equal(np.stack([s.image for s in samples]), 255 - x[: len(samples)])
    missing = (30 - len(samples)) * 784
    offset = 16 + len(samples) * 784
    assert faults == [("images", offset, missing, "file cannot be read further")]


def test_a_gz_that_fails_its_checksum_is_listed(tmp_path, arrays, read_records):
    data = bytearray(gzip.compress(idx(arrays["x_train"]), mtime=0))
    data[-8] ^= 1
    labels = gzip.compress(idx(arrays["y_train"]), mtime=0)
    samples, faults = read_train(tmp_path, read_records, bytes(data), labels, packed=True)
    assert len(samples) == 30
    assert faults == [("images", 16 + 30 * 784, 0, "archive member fails its checksum")]


def test_a_damaged_archive_member_is_listed(tmp_path, arrays, read_records, monkeypatch):
    monkeypatch.setattr(mnist, "_PIECE", 1000)
    path = tmp_path / "mnist.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in idx_files(arrays).items():
            archive.writestr(name, data)
    data = bytearray(path.read_bytes())
    data[data.find(arrays["x_train"][5].tobytes()) + 3] ^= 1
    path.write_bytes(data)
    samples, quarantined = parted(read_records(path))
    assert [q.reason for q in quarantined] == ["archive member fails its checksum"]
    lost = quarantined[0].num_bytes
    # What was read last, of which zipfile takes 4,096 bytes at least, is withheld.
    assert 0 < lost < 4096 + 784 and len(samples) == TRAIN + TEST - lost // 784


def test_labels_that_are_missing_cut_or_of_another_number(tmp_path, arrays, read_records):
    x, y = arrays["x_train"], arrays["y_train"]
    images = idx(x)
    samples, faults = read_train(tmp_path, read_records, images, None)
    assert not samples
    assert faults == [("images", None, len(images), "labels file is missing beside the images")]
    samples, faults = read_train(tmp_path, read_records, images, idx(y[:29]))
    assert not samples
    assert faults == [("images", None, len(images), "images and labels differ in number")]
    samples, faults = read_train(tmp_path, read_records, images, idx(y)[:-10])
    assert len(samples) == 20
    assert faults == [
        ("images", 16 + 20 * 784, 10 * 784, "image without a label"),
        ("labels", 8 + 20, 10, "file ends before its last label"),
    ]
    samples, faults = read_train(tmp_path, read_records, images, idx(x))
    assert not samples
    assert [fault[3] for fault in faults] == ["labels file cannot be read", "no IDX file of labels"]
    (tmp_path / "set" / "train-images-idx3-ubyte").unlink()
    samples, faults = read_train(tmp_path, read_records, None, idx(y))
    assert [fault[3] for fault in faults] == ["images file is missing beside the labels"]


def test_labels_outside_of_the_digits_cost_their_images_only(tmp_path, arrays, read_records):
    x, y = arrays["x_train"], arrays["y_train"].copy()
    y[[0, 11, 12]] = 10, 255, 26
    samples, faults = read_train(tmp_path, read_records, idx(x), idx(y))
    kept = [i for i in range(30) if i not in (0, 11, 12)]
    assert [s.source for s in samples] == [f"set/train-images-idx3-ubyte#{i}" for i in kept]
    assert np.array_equal(np.stack([s.image for s in samples]), 255 - x[kept])
    assert faults == [("images", 16 + i * 784, 784, "label outside 0 to 9") for i in (0, 11, 12)]


def test_what_follows_the_last_item_is_listed(tmp_path, arrays, read_records):
    x, y = arrays["x_train"], arrays["y_train"]
    samples, faults = read_train(tmp_path, read_records, idx(x) + b"abc", idx(y) + b"\0")
    assert len(samples) == 30
    assert faults == [
        ("images", 16 + 30 * 784, 3, "bytes after the last image"),
        ("labels", 8 + 30, 1, "bytes after the last label"),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\0\0\x08\x03\0\0", "no IDX file of images"),
        (b"\x89PNG" + bytes(100), "no IDX file of images"),
        (struct.pack(">BBBB3I", 0, 0, 0x0D, 3, 30, 28, 28), "no IDX file of images"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 0, 28, 28), "array is empty"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 30, 0, 28), "array is empty"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 30, 70_000, 1), "image is too large"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 30, 60_000, 60_000), "image is too large"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 28, 28), "too many images in an array"),
    ],
)
def test_headers_that_make_no_sense(tmp_path, arrays, read_records, data, reason):
    samples, faults = read_train(tmp_path, read_records, data, idx(arrays["y_train"]))
    assert not samples
    assert faults == [("images", None, len(data), reason)]


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, arrays, read_records, monkeypatch):
    monkeypatch.setattr(mnist, "_BOMB_BYTES", 10_000)
    x, y = np.zeros((1000, 28, 28), np.uint8), np.zeros(1000, np.uint8)
    images, labels = gzip.compress(idx(x)), gzip.compress(idx(y))
    samples, faults = read_train(tmp_path, read_records, images, labels, packed=True)
    reason = "unpacks to more than 250 times its size"
    assert not samples
    assert faults == [("images", None, len(images), reason)]
    write(tmp_path, {"bomb.npz": npz({"x_train": x, "y_train": y})})
    samples, quarantined = parted(read_records(tmp_path / "bomb.npz"))
    assert not samples and quarantined[0].reason == reason
    # The header alone claims more than there is, or than fits into any memory.
    for shape in ((9_000_000, 28, 28), (2**40, 2**10, 2**10), (2**63, 28, 28)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        path = tmp_path / "claims.npz"
        pack(path, {"x_train.npy": header.getvalue(), "y_train.npy": npy(y)})
        samples, quarantined = parted(read_records(path))
        assert not samples and quarantined[0].offset is None


# === What is damaged: .npz ===


def read_npz(tmp_path, read_records, arrays):
    write(tmp_path, {"mnist.npz": npz(arrays)})
    samples, quarantined = parted(read_records(tmp_path / "mnist.npz"))
    return samples, {q.source.partition("/")[2]: q.reason for q in quarantined}


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (
            "x_train",
            lambda x: x.astype(np.float32),
            "images are no uint8 array of shape (images, height, width)",
        ),
        (
            "x_train",
            lambda x: x.reshape(30, 784),
            "images are no uint8 array of shape (images, height, width)",
        ),
        ("x_train", lambda x: x[:29], "images and labels differ in number"),
        (
            "x_train",
            np.asfortranarray,
            "array is stored by columns; save numpy.ascontiguousarray of it",
        ),
        ("x_train", lambda x: np.array([{}], object), "no plain NumPy array"),
        (
            "y_train",
            lambda y: y.astype(np.float32),
            "labels are no array of whole numbers of shape (images,)",
        ),
        (
            "y_train",
            lambda y: np.eye(10, dtype=np.uint8)[y],
            "labels are no array of whole numbers of shape (images,)",
        ),
        (
            "y_train",
            lambda y: np.array(3),
            "labels are no array of whole numbers of shape (images,)",
        ),
    ],
)
def test_arrays_of_another_kind(tmp_path, arrays, read_records, name, change, reason):
    arrays[name] = change(arrays[name])
    samples, faults = read_npz(tmp_path, read_records, arrays)
    assert len(samples) == TEST and {s.split for s in samples} == {"test"}
    assert faults == {"x_train.npy": reason}


def test_arrays_that_are_missing_or_too_many(tmp_path, arrays, read_records):
    arrays["x_more"] = arrays["x_test"]
    del arrays["y_test"]
    samples, faults = read_npz(tmp_path, read_records, arrays)
    assert len(samples) == TRAIN
    assert faults == {
        "x_test.npy": "labels array is missing",
        "x_more.npy": "array other than x_train, y_train, x_test, y_test",
    }
    del arrays["x_test"], arrays["x_more"]
    samples, faults = read_npz(tmp_path, read_records, arrays)
    assert len(samples) == TRAIN
    assert faults == {"x_test.npy": "no arrays of this split in the file"}


def test_labels_of_an_npz_outside_of_the_digits(tmp_path, arrays, read_records):
    arrays["y_train"] = arrays["y_train"].astype(np.int64)
    arrays["y_train"][[3, 4]] = -1, 10
    write(tmp_path, {"mnist.npz": npz(arrays)})
    samples, quarantined = parted(read_records(tmp_path / "mnist.npz"))
    assert len(samples) == TRAIN + TEST - 2
    header = len(npy(arrays["x_train"])) - arrays["x_train"].size
    assert quarantined == [
        Skipped("mnist.npz/x_train.npy", header + i * 784, 784, "label outside 0 to 9")
        for i in (3, 4)
    ]


def test_members_cut_short_keep_their_whole_images(tmp_path, arrays, read_records):
    x, y = npy(arrays["x_train"]), npy(arrays["y_train"])
    files = {"x_train.npy": x[: 128 + 12 * 784 + 5], "y_train.npy": y[:-3]}
    files |= {"x_test.npy": npy(arrays["x_test"]) + b"..", "y_test.npy": npy(arrays["y_test"])}
    samples, quarantined = parted(read_records(pack(tmp_path / "mnist.npz", files)))
    assert len(samples) == 12 + TEST
    assert [(q.source, q.offset, q.num_bytes, q.reason) for q in quarantined] == [
        ("mnist.npz/y_train.npy", 128 + 27, 3, "file ends before its last label"),
        ("mnist.npz/x_train.npy", 128 + 12 * 784, 18 * 784, "file ends before its last image"),
        ("mnist.npz/x_test.npy", 128 + 20 * 784, 2, "bytes after the last image"),
    ]


@pytest.mark.parametrize("cut", [0, 10, 3000, -30])
def test_files_that_are_no_whole_npz(tmp_path, arrays, read_records, cut):
    data = npz(arrays)[:cut]
    write(tmp_path, {"mnist.npz": data})
    assert read_records(tmp_path / "mnist.npz") == [
        Skipped("mnist.npz", None, len(data), ".npz file cannot be opened")
    ]


def test_every_damaged_byte_is_survived(tmp_path, arrays, read_records):
    draw = np.random.default_rng(0)
    small = {name: array[:3] for name, array in arrays.items()}
    whole = npz(small, compressed=False)
    for _ in range(150):
        data = bytearray(whole)
        for place in draw.integers(0, len(data), 3):
            data[place] = draw.integers(256)
        # Headers and directory are a small part of the file, and damaged more often here.
        place = int(draw.integers(0, 150))
        data[place] = draw.integers(256)
        place = len(data) - int(draw.integers(1, 350))
        data[place] = draw.integers(256)
        write(tmp_path, {"mnist.npz": bytes(data)})
        samples, quarantined = parted(read_records(tmp_path / "mnist.npz"))
        assert len(samples) <= 6 and (len(samples) == 6 or quarantined)
