"""Archives of the kind .alz, which one of the downloads of CASIA-HWDB1.1 is."""

import errno
import os
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

from hccr_tf.data.sources.records import Unreadable
from hccr_tf.utils.errors import HccrError

_ALZ_FILE = b"BLZ\1"


def check_alz(path: Path, free: int) -> None:
    """Checks a .alz archive's names and sizes before the program that unpacks it sees them.

    Raises:
        HccrError: It is none, or a name would leave its folder.
        OSError: Its content would not fit on the disk.
    """
    total = 0
    try:
        with open(path, "rb") as stream:
            if stream.read(4) != b"ALZ\1":
                raise Unreadable(f"{path} is no .alz archive; download it again", "no .alz archive")
            stream.seek(4, os.SEEK_CUR)
            while stream.read(4) == _ALZ_FILE:
                length, _, _, descriptor, _ = struct.unpack("<HBIBB", stream.read(9))
                width = descriptor >> 4
                packed = 0
                if width:
                    stream.seek(6, os.SEEK_CUR)  # Method, an unknown byte, CRC-32.
                    packed = int.from_bytes(stream.read(width), "little")
                    total += int.from_bytes(stream.read(width), "little")
                name = stream.read(length).replace(b"\\", b"/")
                if name.startswith(b"/") or b":" in name or b".." in name.split(b"/"):
                    raise Unreadable(
                        f"{path} holds a file named {name!r}, which leads out of its folder; it is "
                        "not unpacked",
                        "archive with a file that leads out of its folder",
                    )
                stream.seek(packed + (12 if descriptor & 1 else 0), os.SEEK_CUR)
    except struct.error as error:
        raise Unreadable(
            f"{path} ends within its directory; download it again", "archive is cut off"
        ) from error
    if total > free:
        raise OSError(
            errno.ENOSPC, f"{path} takes {total:,} bytes unpacked and the disk has {free:,} left"
        )


@cache
def _unalz() -> str | None:
    return shutil.which("unalz")


def needs_program(path: Path) -> bool:
    """Whether it's an .alz archive, and nothing here unpacks it."""
    return path.suffix.lower() == ".alz" and _unalz() is None


def unpack_alz(path: Path, folder: Path) -> None:
    """Unpacks a .alz archive (HWDB1.1trn_gnt.zip holds one) into an empty folder.

    Raises:
        HccrError: The program `unalz` is not installed, or fails.
    """
    program = _unalz()
    if program is None:
        raise HccrError(
            f"{path.name} is an .alz archive, which takes the program unalz: install it "
            "(apt install unalz, brew install unalz), or unpack the archive by other means and "
            "give the folder with the .gnt files"
        )
    done = subprocess.run(
        [program, "-d", str(folder), str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise Unreadable(
            f"unalz cannot unpack {path}: {lines[-1] if lines else 'no reason given'}",
            "archive that unalz cannot unpack",
        )
    for file in folder.rglob("*"):
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            file.unlink()
