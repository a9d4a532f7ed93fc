import io
import os
import struct
import zipfile
import zlib

import cv2
import numpy as np
import pytest
from disk import pack
from PIL import Image

from hccr_tf.data.sources.image_folder import NAMELESS
from hccr_tf.images.decoding import decode, decode_grey


def encode(image: np.ndarray, suffix: str = ".png") -> bytes:
    done, data = cv2.imencode(suffix, image)
    assert done
    return data.tobytes()


# === Decoding ===


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_grey_is_taken_as_it_is(make_image, suffix):
    image = make_image(1, 9, 7)
    decoded = decode_grey(encode(image, suffix))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, image)


def test_jpeg():
    decoded = decode_grey(encode(np.full((16, 24), 200, np.uint8), ".jpg"))
    np.testing.assert_allclose(decoded, np.full((16, 24), 200), atol=2)


def test_colour_becomes_luma():
    bgr = np.zeros((1, 4, 3), np.uint8)
    bgr[0, 0], bgr[0, 1], bgr[0, 2], bgr[0, 3] = (0, 0, 255), (0, 255, 0), (255, 0, 0), (9, 9, 9)
    assert decode_grey(encode(bgr)).tolist() == [[76, 150, 29, 9]]


def test_transparency_is_laid_over_white():
    bgra = np.zeros((1, 3, 4), np.uint8)
    bgra[0, :, 3] = 0, 255, 128
    assert decode_grey(encode(bgra)).tolist() == [[255, 0, 127]]


def test_light_ink_on_transparency_is_inverted():
    drawn = np.zeros((1, 4, 4), np.uint8)
    drawn[0, 1:3] = 255, 255, 255, 255
    drawn[0, 3] = 255, 255, 255, 128
    assert decode_grey(encode(drawn)).tolist() == [[255, 0, 0, 127]]
    drawn[0, 0] = 0, 0, 0, 255  # dark ink, and paper to be seen
    assert decode_grey(encode(drawn)).tolist() == [[0, 255, 255, 255]]
    assert decode_grey(encode(drawn * 0)).tolist() == [[255] * 4]


def test_turned_as_exif_says():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(stream := io.BytesIO(), "PNG", exif=exif)
    assert decode_grey(stream.getvalue()).tolist() == np.rot90(image, -1).tolist()


def test_fewer_bits_in_sixteen():
    image = np.array([[0, 2048, 4095]], np.uint16)
    assert decode_grey(encode(image)).tolist() == [[0, 127, 255]]


def test_sixteen_bits_are_rounded_to_eight():
    image = np.array([[0, 128, 257 * 100, 65535]], np.uint16)
    assert decode_grey(encode(image)).tolist() == [[0, 0, 100, 255]]


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of chunks, each a kind and a body."""
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in (*chunks, (b"IEND", b"")):
        crc = zlib.crc32(kind + body)
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)
    return data


def test_a_palette_with_a_transparent_entry():
    data = png(
        (b"IHDR", struct.pack(">IIBBBBB", 3, 1, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes([0, 0, 0, 100, 100, 100, 255, 255, 255])),
        (b"tRNS", bytes([0, 255, 255])),
        (b"IDAT", zlib.compress(bytes([0, 0, 1, 2]))),
    )
    assert decode_grey(data).tolist() == [[255, 100, 255]]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_every_truncation_is_refused(make_image, suffix):
    data = encode(make_image(1, 12, 10), suffix)
    decode_grey(data)
    for length in range(len(data)):
        with pytest.raises(ValueError):
            decode_grey(data[:length])


def test_an_image_that_claims_a_huge_size_is_refused_before_decoding():
    head = struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0)
    claim = png((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1 << 20))))
    for read, number in ((decode_grey, 16), (decode, 200)):
        with pytest.raises(ValueError, match=f"^image of more than {number} million pixels$"):
            read(claim)
    bitmap = bytearray(encode(np.zeros((4, 4), np.uint8), ".bmp"))
    bitmap[18:26] = struct.pack("<ii", 30000, 30000)
    with pytest.raises(ValueError, match="^image of more than 16 million pixels$"):
        decode_grey(bytes(bitmap))


def test_every_flipped_byte_of_a_png_is_refused(make_image):
    data = encode(make_image(1, 6, 6))
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(ValueError):
            decode_grey(bytes(damaged))


def test_bytes_after_the_end_do_not_matter(make_image):
    for suffix in (".png", ".jpg"):
        decode_grey(encode(make_image(1), suffix) + b"trailing")


@pytest.mark.parametrize("read", [decode, decode_grey])
def test_reasons_are_fixed_phrases(make_image, read):
    data = encode(make_image(1))
    for bad, reason in (
        (b"", "empty file"),
        (b"hello", "no image that can be decoded"),
        (data[: len(data) // 2], "image that is damaged or cut off"),
    ):
        with pytest.raises(ValueError, match=f"^{reason}$"):
            read(bad)


# === Folders and archives ===


@pytest.fixture
def repack(tmp_path, make_image):
    """The layout of the repack, with names broken under cp852 and files that cannot be used."""
    root = tmp_path / "CASIA-HWDB_Train"
    for k, character in enumerate("宪室"):
        folder = root / "Train" / character.encode().decode("cp852")
        folder.mkdir(parents=True)
        for n in range(3):
            (folder / f"{n}.png").write_bytes(encode(make_image(10 * k + n)))
    (root / "Train" / "less_than").mkdir()
    (root / "Train" / "less_than" / "1.JPG").write_bytes(encode(make_image(50), ".jpg"))
    (folder / "9.png").write_bytes(encode(make_image(60))[:-5])
    (folder / "empty.png").write_bytes(b"")
    (folder / "Thumbs.db").write_bytes(b"xyz")
    (root / "Train" / "what is this").mkdir()
    (root / "Train" / "what is this" / "1.png").write_bytes(encode(make_image(70)))
    return root


BAD = {
    ("9.png", "image that is damaged or cut off"),
    ("empty.png", "empty file"),
    ("Thumbs.db", "not an image or .gnt file"),
    ("1.png", NAMELESS),
}


def check_repack(records, name):
    samples, bad, repaired = records
    assert sorted(s.character for s in samples) == ["<", *"室室室", *"宪宪宪"]
    assert {s.split for s in samples} == {"train"}
    assert {s.writer for s in samples} == {None}
    assert f"{name}/Train/ň«¬/0.png" in {s.source for s in samples}
    assert {(q.source.rsplit("/", 1)[1], q.reason) for q in bad} == BAD
    assert {(r.name, r.character, r.code_page) for r in repaired} == {
        ("ň«¬", "宪", "cp852"),
        ("ň«Ą", "室", "cp852"),
        ("less_than", "<", "english"),
    }


def test_folder_and_archive(repack, tmp_path, read_kinds):
    check_repack(read_kinds(repack), "CASIA-HWDB_Train")
    archive = pack(tmp_path / "CASIA-HWDB_Train.zip", repack)
    check_repack(read_kinds(archive), "CASIA-HWDB_Train.zip")


def test_a_class_folder_itself(repack, read_kinds):
    samples, bad, _ = read_kinds(repack / "Train" / "ň«¬")
    assert [s.character for s in samples] == ["宪"] * 3
    assert {s.split for s in samples} == {None}
    assert not bad


def test_linked_class_folders_are_followed_once(tmp_path, make_image, read_kinds):
    real = tmp_path / "elsewhere" / "宪"
    real.mkdir(parents=True)
    (real / "1.png").write_bytes(encode(make_image(1)))
    root = tmp_path / "images"
    root.mkdir()
    (root / "宪").symlink_to(real)
    (real / "back").symlink_to(root)
    samples, bad, _ = read_kinds(root)
    assert [s.source for s in samples] == ["images/宪/1.png"]
    assert not bad


def test_names_in_an_archive_without_the_utf8_flag(tmp_path, make_image, read_kinds):
    # A stand-in of as many ASCII bytes, so that Python leaves the flag off.
    path = pack(tmp_path / "Test.zip", {"Test/@@@/1.png": encode(make_image(1))})
    path.write_bytes(path.read_bytes().replace(b"@@@", "宪".encode()))
    samples, bad, repaired = read_kinds(path)
    assert [(s.character, s.split) for s in samples] == [("宪", "test")]
    assert [r.code_page for r in repaired] == ["cp437"]
    assert not bad


def test_images_in_the_root_of_an_archive_have_no_class(tmp_path, make_image, read_kinds):
    # Nothing is unpacked.
    images = {"1.png": encode(make_image(1)), "../../宪/2.png": encode(make_image(2))}
    path = pack(tmp_path / "a.zip", images)
    samples, bad, _ = read_kinds(path)
    assert [s.character for s in samples] == ["宪"]
    assert [q.reason for q in bad] == [NAMELESS]
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_wrong_checksum_in_an_archive(tmp_path, make_image, read_kinds):
    images = {f"宪/{i}.png": encode(make_image(i)) for i in range(3)}
    path = pack(tmp_path / "a.zip", images, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(encode(make_image(1))) + 45] ^= 1
    path.write_bytes(data)
    samples, bad, _ = read_kinds(path)
    assert [s.source for s in samples] == ["a.zip/宪/0.png", "a.zip/宪/2.png"]
    assert [(q.source, q.reason) for q in bad] == [
        ("a.zip/宪/1.png", "archive member fails its checksum")
    ]


def test_class_folders_around_writers_and_classes_in_file_names(tmp_path, make_image, read_kinds):
    nested = {f"Test/{c}/writer{n}/1.png": 10 * ord(c) + n for c in "永字" for n in (1, 2)}
    flat = {f"scans/{c}_{n}.png": 20 * ord(c) + n for c in "永字" for n in (1, 2)}
    for name, files in (("nested", nested), ("flat", flat)):
        for path, seed in files.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(make_image(seed)))
    for name, files, split in (("nested", nested, "test"), ("flat", flat, None)):
        for source in (tmp_path / name, pack(tmp_path / f"{name}.zip", tmp_path / name)):
            samples, skipped, _ = read_kinds(source)
            assert len(samples) == len(files) and not skipped
            for sample in samples:
                assert sample.character in sample.source and sample.split == split
                assert sample.writer == (f"writer{sample.source[-7]}" if split else None)


def test_names_that_are_no_utf8_are_gbk(tmp_path, make_image, read_kinds):
    for seed, character in enumerate("永字八法点横竖小"):
        folder = os.fsencode(tmp_path / "raw") + b"/" + character.encode("gbk")
        os.makedirs(folder)
        with open(folder + b"/1.png", "wb") as stream:
            stream.write(encode(make_image(seed)))
    samples, skipped, repaired = read_kinds(tmp_path / "raw")
    assert sorted(s.character for s in samples) == sorted("永字八法点横竖小")
    assert not skipped and {r.code_page for r in repaired} == {"utf-8+gbk"}
