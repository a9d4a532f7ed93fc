"""Files that several tests write and read."""

import csv
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def put(path: Path, image: np.ndarray) -> None:
    """Writes an image, in a folder that needn't be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def pack(path: Path, contents, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Writes an archive of contents by name, or of a folder's files."""
    if isinstance(contents, Path):
        files = sorted(file for file in contents.rglob("*") if file.is_file())
        contents = {file.relative_to(contents): file.read_bytes() for file in files}
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(str(name), content)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    """Reads a table."""
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def leftovers(folder: Path) -> list[str]:
    """Lists what an interrupted command would have left in a folder."""
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]
