import shutil
import stat
import struct
import zipfile
import zlib

import cv2
import pytest

from hccr_tf.data.sources import alz as alz_module
from hccr_tf.data.sources import discovery as sources_module
from hccr_tf.data.sources import tasks as tasks_module
from hccr_tf.data.sources.gnt import write_gnt
from hccr_tf.data.sources.records import Sample, Skipped


@pytest.fixture
def gnt(tmp_path, make_image):
    """A function that returns the content of a .gnt file of three records."""

    def make(seed: int) -> bytes:
        path = tmp_path / "scratch.gnt"
        write_gnt(path, [(c, make_image(10 * seed + k)) for k, c in enumerate("啊阿A")])
        data = path.read_bytes()
        path.unlink()
        return data

    return make


def pack(path, contents, method=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def alz(contents: dict[bytes, bytes], claim: int = 0) -> bytes:
    """An .alz archive with stored members, as the format is described in unalz's sources."""
    parts = [b"ALZ\1\n\0\0\0"]
    for name, content in contents.items():
        sizes = struct.pack("<II", len(content), claim or len(content))
        parts += [
            b"BLZ\1" + struct.pack("<HBIBB", len(name), 0x20, 0, 0x40, 0),
            struct.pack("<BBI", 0, 0, zlib.crc32(content)),
            sizes,
            name,
            content,
        ]
    return b"".join([*parts, b"CLZ\1" + bytes(12)])


def split(records):
    samples = [r for r in records if isinstance(r, Sample)]
    return samples, [r for r in records if isinstance(r, Skipped)]


needs_unalz = pytest.mark.skipif(shutil.which("unalz") is None, reason="unalz is not installed")


# === Folders of downloads ===


def test_a_folder_of_downloads_under_new_and_old_names(tmp_path, gnt, make_image, read_records):
    folder = tmp_path / "downloads"
    names = {
        "Gnt1.0TrainPart1.zip": "train",
        "Gnt1.0TrainPart2.zip": "train",
        "Gnt1.0TrainPart3.zip": "train",
        "Gnt1.0Test.zip": "test",
        "Gnt1.1TrainPart1.zip": "train",
        "Gnt1.1TrainPart2.zip": "train",
        "Gnt1.1Test.zip": "test",
        "Gnt1.2TrainPart1.zip": "train",
        "Gnt1.2TrainPart2.zip": "train",
        "Gnt1.2Test.zip": "test",
        "competition-gnt.zip": "test",
        "HWDB1.0trn_gnt.zip": "train",
        "HWDB1.0tst_gnt.zip": "test",
        "HWDB1.1tst_gnt.zip": "test",
    }
    for i, name in enumerate(names):
        pack(folder / name, {f"{i:03}-f.gnt": gnt(i)})
    (folder / "loose.gnt").write_bytes(gnt(50))
    _, png = cv2.imencode(".png", make_image(999))
    pack(folder / "CASIA-HWDB_Train.zip", {"Train/宪/1.png": png.tobytes()})
    pack(folder / "outer.zip", {"inner/Gnt1.0Test.zip": (folder / "Gnt1.0Test.zip").read_bytes()})
    (folder / "notes.txt").write_text("hello")
    (folder / "broken.zip").write_bytes(b"PK\3\4 and no more")
    samples, bad = split(read_records(folder))
    found = {s.source: s.split for s in samples}
    for i, (name, side) in enumerate(names.items()):
        for k in range(3):
            assert found.pop(f"downloads/{name}/{i:03}-f.gnt#{k}") == side
    assert found == {
        **{f"downloads/loose.gnt#{k}": None for k in range(3)},
        "downloads/CASIA-HWDB_Train.zip/Train/宪/1.png": "train",
        **{f"downloads/outer.zip/inner/Gnt1.0Test.zip/003-f.gnt#{k}": "test" for k in range(3)},
    }
    assert {(q.source, q.reason) for q in bad} == {
        ("downloads/notes.txt", "not an image or .gnt file"),
        ("downloads/broken.zip", "archive is broken"),
    }


def test_archives_nested_too_deep_are_listed(tmp_path, gnt, read_records):
    path = pack(tmp_path / "0.zip", {"a.gnt": gnt(1)})
    for i in range(1, 4):
        path = pack(tmp_path / f"{i}.zip", {path.name: path.read_bytes(), f"{i}.gnt": gnt(i)})
    samples, bad = split(read_records(path))
    assert {s.source.rsplit("/", 1)[1][:5] for s in samples} == {"1.gnt", "2.gnt", "3.gnt"}
    assert [(q.source, q.reason) for q in bad] == [
        ("3.zip/2.zip/1.zip/0.zip", "archive within 3 others: unpack it first")
    ]


# === .alz ===


@needs_unalz
def test_the_alz_archive_within_a_zip(tmp_path, gnt, read_records):
    inner = alz({b"1001-f.gnt": gnt(1), b"1002-f.gnt": gnt(2)})
    path = pack(tmp_path / "HWDB1.1trn_gnt.zip", {"HWDB1.1trn_gnt.alz": inner})
    samples, bad = split(read_records(path))
    assert [(s.source, s.split, s.writer) for s in samples][::3] == [
        (f"HWDB1.1trn_gnt.zip/HWDB1.1trn_gnt.alz/{w}.gnt#0", "train", w)
        for w in ("1001-f", "1002-f")
    ]
    assert not bad


def test_alz_without_the_program_says_what_to_install(tmp_path, gnt, read_records, monkeypatch):
    monkeypatch.setattr(alz_module, "_unalz", lambda: None)
    path = tmp_path / "HWDB1.1trn_gnt.alz"
    path.write_bytes(alz({b"1001-f.gnt": gnt(1)}))
    with pytest.raises(ValueError, match="takes the program unalz: install it"):
        read_records(path)
    # Also where other archives could be read: half of a set would go unnoticed.
    pack(tmp_path / "Gnt1.1Test.zip", {"1.gnt": gnt(2)})
    with pytest.raises(ValueError, match="install it"):
        read_records(tmp_path)


@pytest.mark.parametrize("name", [b"../evil.gnt", b"/evil/evil.gnt", b"a\\..\\..\\evil.gnt"])
def test_an_alz_archive_whose_names_lead_out_is_refused(tmp_path, gnt, read_records, name):
    path = tmp_path / "a.alz"
    path.write_bytes(alz({name: gnt(1)}))
    with pytest.raises(ValueError, match="leads out of its folder"):
        read_records(path)


def test_damaged_and_oversized_alz_archives(tmp_path, gnt, read_records):
    path = tmp_path / "a.alz"
    path.write_bytes(b"PK\3\4")
    with pytest.raises(ValueError, match="no .alz archive"):
        read_records(path)
    whole = alz({b"1.gnt": gnt(1)})
    path.write_bytes(whole[:16])
    with pytest.raises(ValueError, match="ends within its directory"):
        read_records(path)
    # Claims of 4 GB each, together more than a disk holds.
    path.write_bytes(alz({b"%04d.gnt" % i: b"" for i in range(70000)}, claim=0xFFFFFFFF))
    with pytest.raises(OSError, match="unpacked and the disk has"):
        read_records(path)


# === Refusals ===


@pytest.mark.parametrize(
    ("archive", "member", "words"),
    [
        ("HWDB1.0trn.zip", "001.mpf", "feature file.*HWDB1.0trn_gnt.zip"),
        ("HWDB2.0Train.zip", "001-P16.dgr", "text page"),
        ("OLHWDB1.0trn.zip", "001.pot", "pen movements"),
    ],
)
def test_other_casia_sets_are_refused_with_an_explanation(
    tmp_path, read_records, archive, member, words
):
    path = pack(tmp_path / archive, {member: b"123"})
    with pytest.raises(ValueError, match=words):
        read_records(path)


def test_features_among_images_are_listed(tmp_path, gnt, read_records):
    pack(tmp_path / "HWDB1.0trn.zip", {"001.mpf": b"123"})
    pack(tmp_path / "HWDB1.0trn_gnt.zip", {"001-f.gnt": gnt(1)})
    samples, bad = split(read_records(tmp_path))
    assert len(samples) == 3
    assert [q.reason for q in bad] == ["CASIA feature file (512 numbers a character), no images"]


def test_unknown_sources_are_named_with_a_remedy(tmp_path, read_records):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(ValueError, match=r"a\.rar holds no data of a known kind.*Unpack"):
        read_records(tmp_path / "a.rar")
    with pytest.raises(FileNotFoundError, match="missing"):
        read_records(tmp_path / "missing")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"broken\.zip is no readable zip archive"):
        read_records(tmp_path / "broken.zip")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="endings found: nothing"):
        read_records(empty)


# === Hostile archives ===


def test_names_that_lead_out_write_nothing(tmp_path, gnt, read_records):
    folder = tmp_path / "in"
    inner = pack(tmp_path / "inner.zip", {"../../../evil.gnt": gnt(1), "/evil2.gnt": gnt(2)})
    pack(folder / "a.zip", {"../../evil.zip": inner.read_bytes(), "../evil3.gnt": gnt(3)})
    inner.unlink()
    before = sorted(tmp_path.rglob("*"))
    samples, _ = split(read_records(folder))
    assert len(samples) == 9
    assert sorted(tmp_path.rglob("*")) == before


def test_links_in_archives_are_not_followed(tmp_path, gnt, read_records):
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link.gnt")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("1.gnt", gnt(1))
    samples, bad = split(read_records(path))
    assert len(samples) == 3
    assert [(q.source, q.reason) for q in bad] == [("a.zip/link.gnt", "link in an archive")]


def test_bombs_are_not_unpacked(tmp_path, gnt, read_records, monkeypatch):
    monkeypatch.setattr(tasks_module, "_BOMB_BYTES", 1 << 20)
    path = pack(
        tmp_path / "a.zip",
        {"bomb.gnt": bytes(4 << 20), "bomb.zip": bytes(4 << 20), "1.gnt": gnt(1)},
    )
    samples, bad = split(read_records(path))
    assert len(samples) == 3
    assert {(q.source, q.reason) for q in bad} == {
        ("a.zip/bomb.gnt", "unpacks to more than 250 times its size"),
        ("a.zip/bomb.zip", "unpacks to more than 250 times its size"),
    }


def test_encrypted_members_are_listed(tmp_path, gnt, read_records):
    path = pack(tmp_path / "a.zip", {"1.gnt": gnt(1), "2.gnt": gnt(2)})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    samples, bad = split(read_records(path))
    assert len(samples) == 3
    assert [q.reason for q in bad] == ["encrypted archive member"]


def test_the_layout_does_not_depend_on_anything_but_the_sources(tmp_path, gnt, monkeypatch):
    monkeypatch.setattr(sources_module, "TASK_FILES", 4)
    path = pack(tmp_path / "a.zip", {f"{i:02}.gnt": gnt(i) for i in range(11)})
    plans = []
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        plan = sources_module.make_plan([path], [""], tmp_path / name)
        plans.append([(t.start, t.count, t.num_bytes) for t in plan.tasks()])
        assert plan.num_tasks == 3
    assert plans[0] == plans[1]
    assert [count for _, count, _ in plans[0]] == [4, 4, 3]
