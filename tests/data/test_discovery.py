import os
import stat
import zipfile

import cv2
import pytest
from disk import pack

from hccr_tf.data.sources import discovery, zip_stream
from hccr_tf.data.sources.gnt import write_gnt


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


# === Folders of downloads ===


def test_a_folder_that_cannot_be_read_ends_the_reading(tmp_path, gnt, read_kinds, monkeypatch):
    """Were it passed over, the test split that lies in it would be lost in silence."""
    for i, side in enumerate(("train", "test")):
        (tmp_path / "data" / side).mkdir(parents=True)
        (tmp_path / "data" / side / "1.gnt").write_bytes(gnt(i))
    assert len(read_kinds(tmp_path / "data")[0]) == 6
    scandir = os.scandir

    def scan(path):
        if str(path).endswith("test"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(PermissionError, match="data/test"):
        read_kinds(tmp_path / "data")


def test_a_pipe_is_not_waited_for(tmp_path, gnt, read_kinds):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.gnt").write_bytes(gnt(1))
    os.mkfifo(tmp_path / "data" / "2.png")
    samples, skipped, _ = read_kinds(tmp_path / "data")
    assert len(samples) == 3
    assert [(s.source, s.reason) for s in skipped] == [("data/2.png", "no plain file")]
    with pytest.raises(ValueError, match=r"2\.png is no plain file"):
        read_kinds(tmp_path / "data" / "2.png")


def test_a_folder_of_downloads_under_new_and_old_names(tmp_path, gnt, make_image, read_kinds):
    folder = tmp_path / "downloads"
    sides = {
        "Gnt1.0TrainPart1.zip": "train",
        "Gnt1.0Test.zip": "test",
        "Gnt1.1TrainPart2.zip": "train",
        "competition-gnt.zip": "test",
        "HWDB1.0trn_gnt.zip": "train",
        "HWDB1.1tst_gnt.zip": "test",
    }
    for i, name in enumerate(sides):
        pack(folder / name, {f"{i:03}-f.gnt": gnt(i)})
    (folder / "loose.gnt").write_bytes(gnt(50))
    _, png = cv2.imencode(".png", make_image(999))
    pack(folder / "CASIA-HWDB_Train.zip", {"Train/宪/1.png": png.tobytes()})
    pack(folder / "outer.zip", {"inner/Gnt1.0Test.zip": (folder / "Gnt1.0Test.zip").read_bytes()})
    (folder / "notes.txt").write_text("hello")
    (folder / "broken.zip").write_bytes(b"PK\3\4 and no more")
    samples, skipped, _ = read_kinds(folder)
    assert {s.source: s.split for s in samples} == {
        **{
            f"downloads/{name}/{i:03}-f.gnt#{k}": side
            for i, (name, side) in enumerate(sides.items())
            for k in range(3)
        },
        **{f"downloads/loose.gnt#{k}": None for k in range(3)},
        "downloads/CASIA-HWDB_Train.zip/Train/宪/1.png": "train",
        **{f"downloads/outer.zip/inner/Gnt1.0Test.zip/001-f.gnt#{k}": "test" for k in range(3)},
    }
    assert {(q.source, q.reason) for q in skipped} == {
        ("downloads/notes.txt", "not an image or .gnt file"),
        ("downloads/broken.zip", "archive is cut short or damaged: fetch it again"),
    }


def test_archives_nested_too_deep_are_listed(tmp_path, gnt, read_kinds):
    path = pack(tmp_path / "0.zip", {"a.gnt": gnt(1)})
    for i in range(1, 4):
        path = pack(tmp_path / f"{i}.zip", {path.name: path.read_bytes(), f"{i}.gnt": gnt(i)})
    samples, skipped, _ = read_kinds(path)
    assert {s.source.rsplit("/", 1)[1][:5] for s in samples} == {"1.gnt", "2.gnt", "3.gnt"}
    assert [(q.source, q.reason) for q in skipped] == [
        ("3.zip/2.zip/1.zip/0.zip", "archive within 3 others: unpack it first")
    ]


# === Refusals ===


@pytest.mark.parametrize(
    ("archive", "member", "words"),
    [
        ("HWDB1.0trn.zip", "001.mpf", "feature file.*HWDB1.0trn_gnt.zip"),
        ("HWDB2.0Train.zip", "001-P16.dgr", "text page"),
        ("OLHWDB1.0trn.zip", "001.pot", "pen movements"),
        # Also where other archives could be read: half of a set would go unnoticed.
        ("HWDB1.1trn_gnt.zip", "HWDB1.1trn_gnt.alz", "unpack it first with unalz"),
    ],
)
def test_other_casia_sets_are_refused_with_an_explanation(
    tmp_path, gnt, read_kinds, archive, member, words
):
    path = pack(tmp_path / archive, {member: b"123"})
    with pytest.raises(ValueError, match=words):
        read_kinds(path)
    pack(tmp_path / "HWDB1.0tst_gnt.zip", {"001-f.gnt": gnt(1)})
    if member.endswith(".alz"):
        with pytest.raises(ValueError, match=words):
            read_kinds(tmp_path)
    else:
        samples, skipped, _ = read_kinds(tmp_path)
        assert len(samples) == 3 and skipped[0].reason.startswith("CASIA ")


def test_unknown_sources_are_named_with_a_remedy(tmp_path, read_kinds):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(ValueError, match=r"a\.rar holds no data of a known kind.*Unpack"):
        read_kinds(tmp_path / "a.rar")
    with pytest.raises(FileNotFoundError, match="missing"):
        read_kinds(tmp_path / "missing")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"broken\.zip is no readable zip archive"):
        read_kinds(tmp_path / "broken.zip")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (tmp_path / "broken.zip").rename(downloads / "HWDB1.0tst_gnt.zip")
    with pytest.raises(ValueError, match=r"HWDB1\.0tst_gnt\.zip: archive is cut short.*fetch it"):
        read_kinds(downloads)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="endings found: nothing"):
        read_kinds(empty)


# === Hostile archives ===


def test_names_that_lead_out_write_nothing(tmp_path, gnt, read_kinds):
    folder = tmp_path / "in"
    inner = pack(tmp_path / "inner.zip", {"../../../evil.gnt": gnt(1), "/evil2.gnt": gnt(2)})
    pack(folder / "a.zip", {"../../evil.zip": inner.read_bytes(), "../evil3.gnt": gnt(3)})
    inner.unlink()
    before = sorted(tmp_path.rglob("*"))
    samples, *_ = read_kinds(folder)
    assert len(samples) == 9
    assert sorted(tmp_path.rglob("*")) == before


def test_links_bombs_and_encrypted_members_are_listed(tmp_path, gnt, read_kinds, monkeypatch):
    monkeypatch.setattr(zip_stream, "_BOMB_BYTES", 1 << 20)
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link.gnt")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("secret.gnt", gnt(1))
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb.gnt", bytes(4 << 20))
        archive.writestr("bomb.zip", bytes(4 << 20))
        archive.writestr("1.gnt", gnt(1))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # Encrypted, says the first entry.
    path.write_bytes(data)
    samples, skipped, _ = read_kinds(path)
    assert len(samples) == 3
    assert {(q.source, q.reason) for q in skipped} == {
        ("a.zip/secret.gnt", "encrypted archive member"),
        ("a.zip/link.gnt", "link in an archive"),
        ("a.zip/bomb.gnt", "unpacks to more than 250 times its size"),
        ("a.zip/bomb.zip", "unpacks to more than 250 times its size"),
    }


def test_chunks_end_after_so_many_files(tmp_path, gnt, monkeypatch):
    monkeypatch.setattr(discovery, "CHUNK_FILES", 4)
    contents = {f"{i:02}.gnt": gnt(i) for i in range(11)}
    archive = pack(tmp_path / "a.zip", contents)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for path in (archive, folder):
        looked = discovery.Discovery(tmp_path)
        looked.add(path)
        names = [[file.name for file in chunk.files()] for chunk in looked.chunks]
        assert [len(chunk) for chunk in names] == [4, 4, 3]
        assert sum(names, []) == list(contents)
