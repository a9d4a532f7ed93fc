"""Damage to files, drawn by a random generator: of bytes, and of JSON's values."""

import copy
import json
import random
from typing import Any

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -5, 1e308, -1e308, 10**9, -(2**33), 2**31, 2**64),
    *(float("nan"), float("inf"), float("-inf"), 10**400, "", "x", "..", "../../etc/passwd"),
    *("/etc/passwd", "\0", "\ud800", "零" * 3, "a" * 100_000, [], {}, [None], {"a": None}, [[]]),
    *([0] * 1000, {"../x": {}}, "nan", "1e999", [1, "a", None]),
)


def damage(data: bytes, draw: random.Random, others: list[bytes] | None = None) -> bytes:
    """Changes bytes in one to six places, mostly in one."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        size = len(changed)
        place = draw.randrange(size + 1)
        kind = draw.randrange(9)
        if kind <= 1 and size:  # a bit
            changed[place % size] ^= 1 << draw.randrange(8)
        elif kind <= 3 and size:  # some bytes, mostly one
            length = draw.choice((1, 1, 1, 2, 4, 8))
            values = draw.choice((b"\0" * length, b"\xff" * length, draw.randbytes(length)))
            changed[place : place + length] = values
        elif kind == 4 and size:  # a number
            length = draw.choice((2, 4, 8))
            number = draw.choice(_NUMBERS) % (1 << 8 * length)
            number_bytes = number.to_bytes(length, "little")
            changed[place : place + length] = number_bytes[:: draw.choice((1, -1))]
        elif kind == 5:  # cut off
            del changed[place:]
        elif kind == 6:  # taken out
            del changed[place : place + draw.choice((1, 2, 4, 16, 256, 4096))]
        elif kind == 7:  # put in twice
            part = changed[place : place + draw.choice((1, 2, 4, 16, 256, 4096))]
            changed[place:place] = part
        elif others:  # another file's end
            other = draw.choice(others)
            changed[place:] = other[draw.randrange(len(other) + 1) :]
    return bytes(changed)


def _paths(value: Any, path: tuple = ()) -> list[tuple]:
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = list(enumerate(value))[:8]
    return [path, *(place for key, part in parts for place in _paths(part, (*path, key)))]


def damage_json(text: bytes, draw: random.Random) -> bytes:
    """Changes a value of JSON, or takes it out, or puts one in; or nests without end."""
    if draw.randrange(200) == 0:
        return b"[" * 100_000
    value = json.loads(text)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        value = copy.deepcopy(value)
        path = draw.choice(_paths(value))
        if not path:
            value = draw.choice(_VALUES) if draw.randrange(8) == 0 else value
            continue
        *before, last = path
        inner = value
        for key in before:
            inner = inner[key]
        kind = draw.randrange(6)
        if kind == 0:
            del inner[last]
        elif kind == 1 and isinstance(inner, dict):
            inner[draw.choice(("x", "", "../x", "name"))] = inner[last]
        elif kind == 2 and isinstance(inner[last], str):
            inner[last] = damage(inner[last].encode("utf-8", "replace"), draw).decode(
                "utf-8", "replace"
            )
        elif kind == 3 and type(inner[last]) in (int, float) and abs(inner[last]) < 1e300:
            inner[last] = inner[last] * draw.choice((-1, 0, 2, 10**9, 1e-9)) + draw.choice(
                (-1, 0, 1)
            )
        else:
            inner[last] = draw.choice(_VALUES)
    try:
        return json.dumps(value, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return b"{"
