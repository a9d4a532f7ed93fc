"""Files are refused by name, whatever stands in them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.schema import (
    Count,
    FileName,
    Sha256,
    between,
    check,
    check_range,
    decoding,
    open_hdf5,
    parse_json,
    read_array,
    read_table,
)


@dataclass
class Settings:
    size: int
    rate: float = 0.5
    names: list[str] | None = None
    frozen: str | int = 0


SCHEMA = {
    "state": Literal["begun", "finished"],
    "epochs?": Count,
    "share?": Annotated[float, between(0, 1)],
    "settings?": Settings,
    "files?": [{"name": FileName, "sha256": Sha256}],
    "counts?": dict[str, int],
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "f.json: its content is [], not an object; do this"),
        ({}, "f.json lacks state; do this"),
        ({"state": "x"}, "f.json: state is 'x', not one of begun, finished; do this"),
        ({"epochs": -1}, "f.json: epochs is -1, not a number from 0 to 9.0072e+15; do this"),
        ({"epochs": True}, "f.json: epochs is True, not a whole number; do this"),
        ({"epochs": 1.0}, "f.json: epochs is 1.0, not a whole number; do this"),
        ({"share": float("nan")}, "f.json: share is nan, not a finite number; do this"),
        ({"share": 10**400}, "not a finite number; do this"),
        ({"settings": {}}, "f.json lacks settings.size; do this"),
        ({"settings": {"size": 2**70}}, "settings.size is 1180591620717411303424, not a whole"),
        ({"settings": {"size": 1, "names": [1]}}, "settings.names.0 is 1, not a text"),
        ({"settings": {"size": 1, "frozen": []}}, "settings.frozen is [], not a whole number"),
        ({"files": [{"name": "../x", "sha256": ""}]}, "files.0.name is '../x', not the name of"),
        ({"files": [{"name": "x", "sha256": "a"}]}, "files.0.sha256 is 'a', not a SHA-256 in"),
        ({"counts": {"a": "b"}}, "f.json: counts.a is 'b', not a whole number; do this"),
        ({"state": "a" * 200}, f"state is '{'a' * 59}…, not one of"),
    ],
)
def test_the_message_names_file_field_value_and_remedy(content, message):
    content = {"state": "begun", **content} if isinstance(content, dict) and content else content
    with pytest.raises(HccrError) as caught:
        check(content, SCHEMA, "f.json", "do this")
    assert message in str(caught.value) and str(caught.value).endswith("; do this")


def test_what_fits_passes_and_more_is_allowed():
    settings = {"size": 1, "names": None}
    files = [{"name": "a-b.csv", "sha256": "0" * 64}]
    fits = {"state": "begun", "share": 1, "settings": settings, "files": files, "more": None}
    check(fits, SCHEMA, "f.json")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\\b", "c:x", "a\0", "/etc/passwd"])
def test_no_path_is_a_name(name):
    with pytest.raises(HccrError):
        check(name, FileName, "f.json")


@pytest.mark.parametrize("text", [b"{", b"[" * 100_000, b"\xff", b"1" * 5000, b"", b"\0"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(HccrError, match=r"^f\.json is not valid JSON in UTF-8 \(.*\); "):
        parse_json(text, "f.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON, st.dictionaries(st.sampled_from([n.rstrip("?") for n in SCHEMA]), JSON))
def test_any_json_is_checked_or_refused(value, fields):
    for content in (value, fields, {"state": "begun", **fields}):
        try:
            parse_json(json.dumps(content), "f.json", SCHEMA)
        except HccrError as error:
            assert "f.json" in str(error)
        else:
            assert content["state"] in ("begun", "finished")
            assert 0 <= content.get("share", 0) <= 1


# === Arrays ===


def test_arrays_are_of_their_type_and_shape(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6, dtype=np.int32))
    assert read_array(path, np.int32, length=6).tolist() == [*range(6)]
    for kind, columns, length in ((np.int64, (), None), (np.int32, (2,), None), (np.int32, (), 5)):
        with pytest.raises(HccrError, match=r"a\.npy holds int32 \(6,\), not "):
            read_array(path, kind, *columns, length=length)
    np.savez(tmp_path / "b.npz", a=np.zeros(3))
    (tmp_path / "b.npz").rename(path)
    with pytest.raises(HccrError, match=r"a\.npy holds an archive"):
        read_array(path, np.int32)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000,), }",
        b"{'descr': '<i4', 'fortran_order': False, 'shape': (-5,), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': [('a', 3)], 'fortran_order': False, 'shape': (1,), }",
        b"(" * 200,
        b"{",
        b"\xff",
    ],
)
def test_damaged_headers_of_arrays_are_refused(tmp_path, header):
    path = tmp_path / "a.npy"
    size = len(header).to_bytes(2, "little")
    path.write_bytes(b"\x93NUMPY\x01\x00" + size + header + b"\0" * 24)
    with pytest.raises(HccrError, match=r"a\.npy (is damaged|holds)"):
        read_array(path, np.int32)


def test_the_first_number_out_of_range_is_named():
    check_range(np.array([0, 3]), 0, 3, "a.npy")
    with pytest.raises(HccrError, match=r"a\.npy: row 1 is -5, outside of 0 to 3; "):
        check_range(np.array([0, -5, 9]), 0, 3, "a.npy")
    with pytest.raises(HccrError, match=r"row 1 is 4, outside of 0 to 3"):
        check_range(np.array([9, 4]), 0, np.array([9, 3]), "a.npy")
    with pytest.raises(HccrError, match="row 0"):
        check_range(np.array([np.nan]), 0, 3, "a.npy")


def test_tables_have_their_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,x\n")
    assert read_table(path, ["a"])["b"].tolist() == ["x"]
    with pytest.raises(HccrError, match=r"a\.csv lacks the columns c; "):
        read_table(path, ["a", "c"])
    for content in (b"", b'a,"b\n1', b"\xff\xfe\xfd", b"a,b\n1,2,3\n4,5,6,7"):
        path.write_bytes(content)
        with pytest.raises(HccrError, match=r"a\.csv is damaged"):
            read_table(path, ["a"])


# === HDF5 ===


def _soft(file, folder):
    file["x"] = h5py.SoftLink("/sound")


def _external(file, folder):
    file["x"] = h5py.ExternalLink(str(folder / "other.h5"), "/sound")


def _stored_elsewhere(file, folder):
    (folder / "secret").write_bytes(bytes(range(12)))
    file.create_dataset("x", (3,), "<i4", external=[(str(folder / "secret"), 0, 12)])


def _virtual(file, folder):
    layout = h5py.VirtualLayout((3,), "<i4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "sound", shape=(3,))
    file.create_virtual_dataset("x", layout)


def _of_variable_length(file, folder):
    file.create_dataset("x", data=["a"] * 3, dtype=h5py.string_dtype())


def _huge(file, folder):
    file.create_dataset("x", (10**12,), "<i4", chunks=(100,))


def _never_written(file, folder):
    file.create_dataset("x", (10**9,), "<i4")


@pytest.mark.parametrize(
    ("add", "fault"),
    [
        (_soft, "is a link"),
        (_external, "is a link"),
        (_stored_elsewhere, "is stored in other files"),
        (_virtual, "is stored in other files"),
        (_of_variable_length, "is of variable length"),
        (_huge, "claims 4,000,000,000,000 bytes and has 0"),
        (_never_written, "claims 4,000,000,000 bytes and has 0"),
    ],
)
def test_hdf5_files_hold_what_they_claim_and_nothing_else(tmp_path, add, fault):
    for name in ("other", "a"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["sound"] = np.arange(3, dtype=np.int32)
    with open_hdf5(tmp_path / "a.h5") as file:
        assert file["sound"][:].tolist() == [0, 1, 2]
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        add(file.create_group("inner"), tmp_path)
    with (
        pytest.raises(HccrError, match=rf"a\.h5: inner/x {fault}, which isn't read here; "),
        open_hdf5(tmp_path / "a.h5"),
    ):
        pass


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, RecursionError, KeyError, OSError])
def test_whatever_a_library_raises_is_damage(error):
    with (
        pytest.raises(HccrError, match=r"^a\.bin is damaged or of another kind"),
        decoding("a.bin"),
    ):
        raise error


def test_what_the_system_says_stays():
    with pytest.raises(FileNotFoundError), decoding("a.bin"):
        Path("/nowhere/a.bin").read_bytes()
    with pytest.raises(HccrError, match="^as it is$"), decoding("a.bin"):
        raise HccrError("as it is")
    unused: Any = None
    check(unused, Any, "a.bin")
