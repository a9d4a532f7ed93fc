import io
import struct
import zipfile

import numpy as np
import pytest
from disk import pack
from hypothesis import given, settings
from hypothesis import strategies as st

from hccr_tf.data.sources.gnt import read_blocks, write_gnt
from hccr_tf.data.sources.records import Skipped, split_of_path

HEADER = 10


def record(tag: bytes, pixels: np.ndarray) -> bytes:
    """One record, put together byte by byte after the format's description."""
    height, width = pixels.shape
    size = 4 + 2 + 2 + 2 + width * height
    head = struct.pack("<I", size) + tag + struct.pack("<HH", width, height)
    return head + pixels.tobytes()


def three_records(make_image) -> tuple[bytes, list[np.ndarray]]:
    images = [make_image(1, 3, 4), make_image(2, 5, 2), make_image(3, 4, 4)]
    tags = ["啊".encode("gbk"), b"A\0", b"\xa1\xaa"]
    data = b"".join(record(t, p) for t, p in zip(tags, images, strict=True))
    return data, images


def read(data: bytes):
    """Reads bytes and checks that every byte is accounted for, once and in order."""
    position, samples, skipped = 0, [], []
    for entry in read_blocks(io.BytesIO(data), "a.gnt", len(data)):
        if isinstance(entry, Skipped):
            assert entry.offset == position
            position += entry.num_bytes
            skipped.append(entry)
        else:
            position += sum(HEADER + sample.image.size for sample in entry.samples())
            samples += entry.samples()
    assert position == len(data)
    return samples, skipped


def test_records_built_by_hand(make_image, tmp_path, read_records):
    data, images = three_records(make_image)
    good, bad = read(data)
    assert not bad
    for sample, character, image in zip(good, "啊A—", images, strict=True):
        assert (sample.character, sample.image.dtype) == (character, np.uint8)
        np.testing.assert_array_equal(sample.image, image)
    path = tmp_path / "1001-f.gnt"
    assert write_gnt(path, zip("啊A—", images, strict=True)) == 3
    assert path.read_bytes() == data
    assert [sample.character for sample in read_records(path)] == ["啊", "A", "—"]


@pytest.mark.parametrize(
    "pair",
    [
        ("\U00020000", np.zeros((2, 2), np.uint8)),
        ("啊", np.zeros((2, 2), np.float32)),
        ("啊", np.zeros((2, 2, 1), np.uint8)),
        ("啊", np.zeros((0, 2), np.uint8)),
        ("啊", np.zeros((1, 3000), np.uint8)),
    ],
)
def test_write_refuses_what_the_format_cannot_hold(tmp_path, pair):
    with pytest.raises(ValueError):
        write_gnt(tmp_path / "a.gnt", [("啊", np.zeros((2, 2), np.uint8)), pair])
    assert list(tmp_path.iterdir()) == []


def test_every_truncation_keeps_the_whole_records(make_image):
    data, images = three_records(make_image)
    ends = np.cumsum([HEADER + p.size for p in images])
    for length in range(len(data)):
        good, bad = read(data[:length])
        assert len(good) == int((ends <= length).sum())
        whole = length in {0, *ends.tolist()}
        assert [q.reason for q in bad] == ([] if whole else ["truncated record"])


def test_every_flipped_byte_costs_one_record_at_most(make_image):
    data, images = three_records(make_image)
    starts = np.cumsum([0] + [HEADER + p.size for p in images[:-1]])
    for number, start in enumerate(starts.tolist()):
        for position in range(start, start + HEADER):
            for flip in (1, 0x80, 0xFF):
                damaged = bytearray(data)
                damaged[position] ^= flip
                good, skipped = read(bytes(damaged))
                if position - start in (4, 5) and not skipped:
                    continue  # Another valid tag code: nothing in the file can tell.
                kept = [p for i, p in enumerate(images) if i != number]
                assert len(skipped) == 1
                assert [r.image.tolist() for r in good] == [p.tolist() for p in kept]
    for position in range(HEADER, HEADER + images[0].size):  # Pixels change no structure.
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        good, skipped = read(bytes(damaged))
        assert (len(good), len(skipped)) == (3, 0)


def records():
    """Bytes of a sound record: any character, small sizes, any pixels."""
    sides = st.integers(1, 6)
    tags = st.sampled_from([b"\xb0\xa1", b"A\0", b"\x22\0", b"\xd7\xf9"])
    shaped = st.tuples(sides, sides).flatmap(
        lambda size: st.binary(min_size=size[0] * size[1], max_size=size[0] * size[1]).map(
            lambda pixels: np.frombuffer(pixels, np.uint8).reshape(size)
        )
    )
    return st.builds(record, tags, shaped)


EXTREMES = [0, 1, 9, 10, 11, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]
STRETCHES = st.one_of(
    records(),
    st.binary(max_size=40),
    st.integers(0, 60).map(bytes),
    st.sampled_from(EXTREMES).map(lambda number: struct.pack("<I", number)),
    st.tuples(records(), st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]]),
    st.tuples(records(), st.integers(0, 60)).map(lambda cut: cut[0][cut[1] :]),
    st.tuples(records(), st.integers(0, 9), st.integers(0, 255)).map(
        lambda hit: hit[0][: hit[1]] + bytes([hit[2]]) + hit[0][hit[1] + 1 :]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(STRETCHES, max_size=12).map(b"".join))
@pytest.mark.slow
def test_every_byte_of_damaged_files_is_kept_or_skipped(data):
    read(data)


@settings(max_examples=50, deadline=None)
@given(st.lists(STRETCHES, max_size=12).map(b"".join), records(), records())
def test_two_sound_records_at_the_end_are_found(data, first, second):
    samples, skipped = read(data + first + second)
    assert len(samples) > 1 and samples[-1].image.tobytes() == second[HEADER:]
    assert not skipped or skipped[-1].offset + skipped[-1].num_bytes < len(data + first + second)


@pytest.mark.parametrize(
    "garbage",
    # The last is longer than the reader's buffer.
    [b"\0" * 50, b"\xff" * 50, b"PK\x03\x04" * 9, b"\x0b\0\0\0", bytes(range(1, 256)) * 12000],
    ids=range(5),
)
@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_garbage_is_skipped_and_the_rest_kept(make_image, garbage, place):
    data, images = three_records(make_image)
    cut = {"before": 0, "between": HEADER + images[0].size, "after": len(data)}[place]
    good, bad = read(data[:cut] + garbage + data[cut:])
    assert len(good) == 3
    assert [(q.offset, q.num_bytes) for q in bad] == [(cut, len(garbage))]


# === Reader ===


@pytest.fixture
def gnt_folder(tmp_path, make_image):
    folder = tmp_path / "HWDB1.1"
    for part, writers in (("Gnt1.1Train", ("1001-f", "1002-f")), ("Gnt1.1Test", ("1241-f",))):
        (folder / part).mkdir(parents=True)
        for i, writer in enumerate(writers):
            pairs = [(c, make_image(10 * i + k)) for k, c in enumerate("啊阿A")]
            write_gnt(folder / part / f"{writer}.gnt", pairs)
    return folder


def test_folder_and_archive_give_the_same_samples(gnt_folder, tmp_path, read_records):
    archive = pack(tmp_path / "all.zip", gnt_folder)
    listed = []
    for path in (gnt_folder, archive):
        samples = read_records(path)
        listed.append([(s.character, s.writer, s.split, s.image.tobytes()) for s in samples])
    assert listed[0] == listed[1]
    assert [(c, w, s) for c, w, s, _ in listed[0]][2:4] == [
        ("A", "1241-f", "test"),
        ("啊", "1001-f", "train"),
    ]
    assert samples[0].source == "all.zip/Gnt1.1Test/1241-f.gnt#0"


def test_a_single_file_and_others_that_are_listed(gnt_folder, read_kinds):
    samples, *_ = read_kinds(gnt_folder / "Gnt1.1Train" / "1002-f.gnt")
    assert [s.source for s in samples] == [f"1002-f.gnt#{i}" for i in range(3)]
    assert {(s.writer, s.split) for s in samples} == {("1002-f", None)}
    (gnt_folder / "readme.txt").write_text("hello")
    (gnt_folder / "empty.gnt").write_bytes(b"")
    _, bad, _ = read_kinds(gnt_folder)
    assert [(q.source, q.num_bytes, q.reason) for q in bad] == [
        ("HWDB1.1/empty.gnt", 0, "empty file"),
        ("HWDB1.1/readme.txt", 5, "not an image or .gnt file"),
    ]


def test_a_wrong_checksum_in_an_archive_is_reported_and_records_are_kept(
    gnt_folder, tmp_path, read_kinds
):
    path = pack(tmp_path / "a.zip", gnt_folder, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    image = (gnt_folder / "Gnt1.1Test" / "1241-f.gnt").read_bytes()[HEADER:30]
    data[data.index(image) + 5] ^= 0xFF
    path.write_bytes(data)
    samples, bad, _ = read_kinds(path)
    assert len(samples) == 9
    assert [(q.source, q.num_bytes, q.reason) for q in bad] == [
        ("a.zip/Gnt1.1Test/1241-f.gnt", 0, "archive member fails its checksum")
    ]


def test_a_damaged_archive_member_is_kept_as_far_as_it_can_be_read(
    tmp_path, make_image, read_kinds
):
    folder = tmp_path / "gnt"
    folder.mkdir()
    write_gnt(folder / "1-f.gnt", [("啊", make_image(i, 60, 50)) for i in range(100)])
    write_gnt(folder / "2-f.gnt", [("啊", make_image(i, 60, 50)) for i in range(3)])
    num_bytes = (folder / "1-f.gnt").stat().st_size
    path = pack(tmp_path / "a.zip", folder)
    data = bytearray(path.read_bytes())
    # An invalid block type in the middle of the first member's compressed data.
    middle = len(data) * 2 // 3
    data[middle : middle + 200] = b"\xff" * 200
    path.write_bytes(data)
    samples, bad, _ = read_kinds(path)
    first = [r for r in samples if "1-f" in r.source]
    assert len(first) > 20 and len(samples) == len(first) + 3
    assert bad and all("1-f.gnt" in q.source for q in bad)
    kept = sum(HEADER + s.image.size for s in first)
    assert kept + sum(q.num_bytes for q in bad) == num_bytes


@pytest.mark.parametrize(
    ("parts", "split"),
    [
        (["Gnt1.0TrainPart1.zip"], "train"),
        (["HWDB1.1tst_gnt.zip"], "test"),
        (["HWDB1.0trn_gnt.zip"], "train"),
        (["competition-gnt.zip"], "test"),
        (["CASIA-HWDB_Test.zip", "Test"], "test"),
        (["GNT1.2TEST"], "test"),
        (["gnt1.0trainpart1"], "train"),
        (["Train", "test"], "test"),
        (["validation"], "validation"),
        (["latest", "contest", "hwdb100-gnt.zip", "1001-f", "values"], None),
        ([], None),
    ],
)
def test_split_of_path(parts, split):
    assert split_of_path(parts) == split
