"""A store prepared in parts by several commands, each of which reads some of the sources' chunks.

A part lies in `OUT.parts/I-of-N`: its image files, what is known of their images, and the checksums
of some sources. Joined, they are the bytes of a store that one command prepares.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import astuple
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
from hccr_tf.utils.schema import Count, Sha256, decoding, parse_json

_AGAIN = "prepare that part again"
_PART = {"of": Sha256, "checksums": dict[str, Sha256], "shards": list[Count]}
_LISTS = {
    "writers": list[str],
    "skipped": [[str | int | None]],
    "repaired": [[str]],
    "left_out": dict[str, Count],
}


def part_folder(out: Path, index: int, count: int) -> Path:
    """Names the folder of a part, `index` from 1 of `count`."""
    return out.with_name(f"{out.name}.parts") / f"{index}-of-{count}"


def fingerprint(discovery: Discovery, charset: Charset | None) -> str:
    """Returns what parts must have in common: sources, their chunks and how these are read."""
    sources = [{k: v for k, v in s.items() if k != "path"} for s in discovery.sources]
    chunks = [
        (c.container.label, repr(c.container.options), c.first, c.last, c.names, c.characters)
        for c in discovery.chunks
    ]
    what = (sources, chunks, None if charset is None else charset.sha256)
    return hashlib.sha256(repr(what).encode("utf-8", "surrogateescape")).hexdigest()


def write_part(folder: Path, of: str, results: dict[int, Any]) -> None:
    """Writes beside a part's image files what its calls returned: checksums and shards."""
    checksums = {str(call): text for call, text in results.items() if isinstance(text, str)}
    shards = [shard for shard in results.values() if isinstance(shard, Shard)]
    for shard in shards:
        lists = {
            "writers": shard.writers,
            "skipped": [astuple(entry) for entry in shard.skipped],
            "repaired": [astuple(entry) for entry in shard.repaired],
            "left_out": shard.left_out,
        }
        text = np.frombuffer(json.dumps(lists).encode(), np.uint8)
        ids = np.frombuffer(shard.ids, np.uint8)
        np.savez(_shard_file(folder, shard.number), index=shard.index, ids=ids, lists=text)
    numbers = [shard.number for shard in shards]
    write_json(folder / "part.json", {"of": of, "checksums": checksums, "shards": numbers})


def read_parts(out: Path, of: str, num_calls: int, num_chunks: int, folder: Path) -> list[Any]:
    """Returns what the calls of all parts of a store returned, and links their image files.

    Raises:
        HccrError: There are no parts, one is missing, or one is of other sources or settings.
    """
    parts = sorted(part_folder(out, 1, 1).parent.glob("*-of-*"))
    counts = {part.name.partition("-of-")[2] for part in parts}
    if len(counts) != 1:
        raise HccrError(
            f"{part_folder(out, 1, 1).parent} holds {len(parts)} parts of {len(counts)} divisions; "
            "prepare all --shard I/N of one N, and keep no others there"
        )
    missing = [
        i for i in range(1, 1 + int(*counts)) if part_folder(out, i, int(*counts)) not in parts
    ]
    if missing:
        raise HccrError(f"parts {', '.join(map(str, missing))} of {out} are still to be prepared")
    results: list[Any] = [None] * num_calls
    for part in parts:
        known = read_json(part / "part.json", _PART, _AGAIN)
        if known["of"] != of:
            raise HccrError(f"{part} is of other sources or settings; {_AGAIN}, with these")
        for call, checksum in known["checksums"].items():
            results[int(call)] = checksum
        for number in known["shards"]:
            shard = _read_shard(_shard_file(part, number), number)
            results[num_calls - num_chunks + number] = shard
            if len(shard.index):
                os.link(part / image_file(number), folder / image_file(number))
    return results


def remove_parts(out: Path) -> None:
    """Removes the parts that a store was joined of."""
    shutil.rmtree(part_folder(out, 1, 1).parent, ignore_errors=True)


def _shard_file(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.npz"


def _read_shard(path: Path, number: int) -> Shard:
    with decoding(path, _AGAIN), np.load(path) as arrays:
        index, ids, text = arrays["index"], arrays["ids"], arrays["lists"].tobytes()
    if index.dtype != INDEX:
        raise HccrError(f"{path} holds no index of images; {_AGAIN}")
    lists = parse_json(text, path, _LISTS, _AGAIN)
    return Shard(
        number,
        index,
        ids.tobytes(),
        lists["writers"],
        [Skipped(*entry) for entry in lists["skipped"]],
        [RepairedName(*entry) for entry in lists["repaired"]],
        Counter(lists["left_out"]),
    )
