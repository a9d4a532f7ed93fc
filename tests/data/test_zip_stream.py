import struct
import zipfile

import pytest
from disk import pack
from hypothesis import given, settings
from hypothesis import strategies as st

from hccr_tf.data.sources.zip_stream import ZipDirectory

CONTENTS = {"a.txt": b"hello" * 100, "folder/宪.bin": bytes(range(256)) * 50, "empty": b""}


def contents(path):
    directory = ZipDirectory(path)
    found = {}
    for member in directory.members():
        with directory.open(member) as stream:
            found[member.name] = stream.read()
        assert member.num_bytes == len(found[member.name])
    return found


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1
)
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@settings(deadline=None)
@given(
    st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary()),
    st.sampled_from(METHODS),
    st.binary(max_size=50),
    # A comment with a directory's end in it is ambiguous; zipfile can't read it either.
    st.binary(max_size=50).filter(lambda comment: b"PK\x05\x06" not in comment),
)
def test_members_are_those_of_zipfile(tmp_path_factory, members, method, before, comment):
    path = pack(tmp_path_factory.mktemp("zip") / "a.zip", members, method)
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("folder")
        archive.comment = comment
        infos = [info for info in archive.infolist() if not info.is_dir()]
    path.write_bytes(before + path.read_bytes())
    assert contents(path) == members
    for info, member in zip(infos, ZipDirectory(path).members(), strict=True):
        assert (member.name, member.num_bytes, member.packed, member.crc, member.method) == (
            info.filename,
            info.file_size,
            info.compress_size,
            info.CRC,
            info.compress_type,
        )


def test_sizes_beyond_32_bits(tmp_path, monkeypatch):
    """zip64 entries and directory, as an archive of 4 GiB has them, around small content."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 2)
    path = pack(tmp_path / "a.zip", CONTENTS)
    assert b"PK\6\6" in path.read_bytes()
    assert contents(path) == CONTENTS
    path.write_bytes(b"before" + path.read_bytes())
    assert contents(path) == CONTENTS


def test_reading_begins_at_any_entry(tmp_path):
    many = {f"{i:04}.txt": b"%d" % i for i in range(3000)}
    path = pack(tmp_path / "a.zip", many, zipfile.ZIP_STORED)
    directory = ZipDirectory(path)
    everything = list(directory.members())
    assert [m.name for m in everything] == list(many)
    for first, last in ((0, 9), (1700, 2200), (2990, 2999)):
        members = directory.members(everything[first].position, everything[last].position)
        assert list(members) == everything[first : last + 1]


@pytest.mark.parametrize("cut", [1, 30, 100])
def test_a_cut_or_damaged_archive_is_refused_with_a_remedy(tmp_path, cut):
    path = pack(tmp_path / "a.zip", CONTENTS)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-cut])
    with pytest.raises(ValueError, match=r"a\.zip is no readable zip archive.*download it again"):
        list(ZipDirectory(path).members())
    data[data.index(b"PK\1\2") + 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged directory"):
        list(ZipDirectory(path).members())


def test_members_over_each_other_are_refused(tmp_path):
    path = pack(tmp_path / "a.zip", {"a": bytes(1000)}, zipfile.ZIP_STORED)
    data = path.read_bytes()
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry = data[data.rindex(b"PK\1\2") : end]
    directory = data[start:end] + entry * 50
    tail = bytearray(data[end:])
    tail[8:20] = struct.pack("<2H2L", 52, 52, len(directory), start)
    path.write_bytes(data[:start] + directory + tail)
    with pytest.raises(ValueError, match="lie over each other"):
        list(ZipDirectory(path).members())
