"""A store prepared in parts by several commands, each of which reads some of the sources' pieces.

A part lies in `OUT.parts/I-of-N`: image files, and a JSON file for each piece. Joined, parts are
the bytes of a store that one command prepares.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.sources.discovery import Discovery
from hccr_tf.data.sources.records import RepairedName, Skipped
from hccr_tf.data.store.format import image_file
from hccr_tf.data.store.writer import INDEX, Shard
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import read_json, write_json
from hccr_tf.utils.schema import Count, Sha256, decoding

_SHARD = {"number": Count, "index": str, "ids": str, "writers": list[str]}
_SHARD |= {"skipped": list[Skipped], "repaired": list[RepairedName], "left_out": dict[str, Count]}
_REMEDY = "prepare that part again"


def parts_folder(out: Path) -> Path:
    """Names the folder of a store's parts."""
    return out.with_name(f"{out.name}.parts")


def piece_names(number: int, discovery: Discovery, charset: Charset | None) -> list[str]:
    """Names the files of so many pieces, by what they're read from and how."""
    sources = [{**source, "path": None} for source in discovery.sources]
    chunks = [
        {**vars(c), "container": {**vars(c.container), "path": None}} for c in discovery.chunks
    ]
    what = repr((sources, chunks, charset and charset.text))
    digest = hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()
    return [f"{digest[:16]}-{i:05d}.json" for i in range(number)]


def keep_piece(path: Path, read: Callable[[], str | Shard]) -> None:
    """Reads a piece, and writes its checksum, or what is known of its images, beside these."""
    piece = read()
    if isinstance(piece, str):
        write_json(path, {"sha256": piece})
        return
    plain = {**vars(piece), "index": piece.index.tobytes().hex(), "ids": piece.ids.decode()}
    plain |= {name: list(map(asdict, plain[name])) for name in ("skipped", "repaired")}
    write_json(path, {"shard": plain})


def join_pieces(parts: Path, names: list[str], folder: Path) -> list[Any]:
    """Returns the checksums and shards of all pieces, and links their image files into a folder.

    Raises:
        HccrError: A piece isn't there, or damaged.
    """
    found = {path.name: path for path in parts.glob("[0-9]*-of-*/*.json")}
    if missing := sum(name not in found for name in names):
        there = ", ".join(sorted({path.parent.name for path in found.values()})) or "none"
        raise HccrError(
            f"{missing} of {len(names)} pieces of these sources are in no part in {parts} (parts "
            f"there: {there}). Prepare each --shard I/N with the same arguments as --join"
        )
    pieces: list[Any] = []
    for path in map(found.__getitem__, names):
        plain = read_json(path, {"sha256?": Sha256, "shard?": _SHARD}, _REMEDY)
        if "shard" not in plain:
            pieces.append(plain["sha256"])
            continue
        shard = plain["shard"]
        with decoding(path, _REMEDY):
            shard["index"] = np.frombuffer(bytes.fromhex(shard["index"]), INDEX)
        shard["ids"], shard["left_out"] = shard["ids"].encode(), Counter(shard["left_out"])
        shard["skipped"] = [Skipped(**entry) for entry in shard["skipped"]]
        shard["repaired"] = [RepairedName(**entry) for entry in shard["repaired"]]
        pieces.append(Shard(**shard))
        if len(shard["index"]):
            image = image_file(shard["number"])
            os.link(path.parent / image, folder / image)
    return pieces
