"""Strokes of free fonts: glyphs become skeletons, and skeletons are traced into centre lines.

A skeleton tells neither where the pen went first nor which way. Both come from the strokes of the
same character that a stroke file gives (`load_strokes`): every traced line lies along
some of them. A line is parted where it turns sharply from one of those strokes to another, as a
pen would be lifted there; a running hand's ligatures, which don't turn sharply, stay.

Kept tracers of skeletons were looked at (skan 0.13, sknw 0.15): they give the branches between
junctions, which is the smaller half, and bring Numba; which branches make one stroke they leave
open.

Takes `pip install hccr_tf[synthesis]`.
"""

import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hccr_tf.synthesis.geometry import GRID, POINTS, from_grid
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import sha256_file

FONT_SUFFIXES = (".ttf", ".otf", ".ttc", ".woff2")

_SIDE = 112  # pixels of a glyph's longer side where it's traced
_MARGIN = 4
_CORNER = np.deg2rad(45)  # a turn at which a pen may be lifted
_LONGEST = 1.5  # sides of a character that one traced line may be long


@dataclass(frozen=True)
class Traced:
    """One character of a font: its strokes in writing order, each (points, 2).

    `reference` (strokes, 2) is the first and the last of the stroke file's strokes that each one
    lies along; `distance`, in sides of the character, how far they lie on the average from the
    stroke file's or those from them, whichever is more.
    """

    strokes: list[np.ndarray]
    reference: np.ndarray
    distance: float = 0.0


def font_files(path: str | os.PathLike[str]) -> list[Path]:
    """A font's files: itself, or the subsets in a folder.

    Raises:
        FileNotFoundError: there's no such file, or no font in the folder.
    """
    path = Path(path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [f for f in files if f.suffix.lower() in FONT_SUFFIXES and f.is_file()]
    if not files:
        raise FileNotFoundError(
            f"{path} is no font and no folder of fonts ({', '.join(FONT_SUFFIXES)}); "
            "docs/recogniser.md says where fonts can be had"
        )
    return files


def font_facts(path: str | os.PathLike[str], licence: str | None = None) -> dict[str, str]:
    """Name, version, licence and checksum of a font: a file, or a folder of its subsets.

    Raises:
        FileNotFoundError: as `font_files`.
        HccrError: it's no font, or its licence is empty or reserved and `licence` is None.
    """
    files = font_files(path)
    with _open(files[0]) as font:
        names = [font["name"].getDebugName(i) or "" for i in range(15)]
    # Subsets of fontsource keep the licence's address (14) and not its text (13).
    found = (names[13] or names[14]).strip()
    if licence is None and (not found or "reserved" in found.lower()):
        raise HccrError(
            f"{path} doesn't say that it's free: its licence field "
            + (f"reads {found[:80]!r}" if found else "is empty")
            + f"; where its package says so, add --licence {Path(path).name}='what it says'"
        )
    return {
        "name": names[4] or names[1] or files[0].stem,
        "version": names[5],
        "licence": licence or found,
        "copyright": names[0],
        "sha256": hashlib.sha256("".join(map(sha256_file, files)).encode()).hexdigest(),
    }


def _open(file: Path):
    from fontTools.ttLib import TTFont, TTLibError

    try:
        # By way of its bytes: a file that's no font would be left open.
        return TTFont(io.BytesIO(file.read_bytes()), fontNumber=0, lazy=True)
    except TTLibError as error:
        raise HccrError(f"{file} can't be read as a font ({error}); get it again") from error


def trace_font(
    path: str | os.PathLike[str],
    strokes: Mapping[str, list[np.ndarray]],
    characters: Collection[str],
) -> Iterator[tuple[str, Traced]]:
    """Traces a font's glyphs of characters, ordered by the strokes that a stroke file has.

    The font is a file, or a folder of its subsets.
    """
    wanted = set(characters) & set(strokes)
    for file in font_files(path):
        with _open(file) as opened:
            covered = sorted(wanted & set(map(chr, opened.getBestCmap() or ())))
        if not covered:
            continue
        wanted.difference_update(covered)
        font = ImageFont.truetype(str(file), 2 * _SIDE)
        for character in covered:
            ink = _glyph(font, character)
            traced = None if ink is None else _ordered(trace(ink), strokes[character])
            if traced is not None:
                yield character, traced


def _glyph(font, character: str) -> np.ndarray | None:
    """Returns a glyph as a bool image, its longer side _SIDE pixels; None for a blank one."""
    image = Image.new("L", (4 * _SIDE, 4 * _SIDE))
    ImageDraw.Draw(image).text((_SIDE, _SIDE), character, 255, font=font)
    ink = np.asarray(image)
    rows, columns = np.flatnonzero(ink.max(1) > 127), np.flatnonzero(ink.max(0) > 127)
    if len(rows) < 2 or len(columns) < 2:
        return None
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # A glyph of one short stroke isn't blown up.
    scale = min(_SIDE / max(ink.shape), 1.0)
    size = [max(1, round(side * scale)) for side in ink.shape[::-1]]
    ink = cv2.resize(ink, size, interpolation=cv2.INTER_AREA)
    # Rough outlines have spurs; a little blur takes most of them.
    ink = cv2.GaussianBlur(np.pad(ink, _MARGIN), (0, 0), 1.0)
    return ink > 120


def trace(ink: np.ndarray) -> list[np.ndarray]:
    """Traces ink, bool (height, width), into lines in no order and direction.

    Each is complex (points,), columns + 1j * rows.
    """
    from skimage.morphology import skeletonize

    ink = np.pad(ink, 1)
    radius = cv2.distanceTransform(ink.astype(np.uint8), cv2.DIST_L2, 5)
    lines = _joined(_branches(skeletonize(ink), radius), radius)
    return [_smooth(line) - (1 + 1j) for line in lines]


def _branches(skeleton: np.ndarray, radius: np.ndarray) -> list[list]:
    """[node, node, complex points]: what lies between ends and junctions, spurs left out.

    A node is a complex place; a branch's points begin at one node and end at the other.
    """
    width = skeleton.shape[1]
    pixels = set(np.flatnonzero(skeleton).tolist())
    around = {}
    for p in pixels:
        near = [q for q in (p - 1, p + 1, p - width, p + width) if q in pixels]
        # A diagonal step counts only where two straight ones don't lead there.
        for down in (-width, width):
            for right in (-1, 1):
                q = p + down + right
                if q in pixels and p + down not in pixels and p + right not in pixels:
                    near.append(q)
        around[p] = near
    node = {p: p for p, near in around.items() if len(near) != 2}

    def place(p):
        return complex(p % width, p // width)

    def root(p):
        while node[p] != p:
            p = node[p]
        return p

    def walk(start, step):
        path = [start, step]
        while path[-1] not in node:
            one, other = around[path[-1]]
            path.append(other if one == path[-2] else one)
            if path[-1] == start:
                break
        return path

    branches, done = [], set()
    for start in list(node):
        for step in around[start]:
            if (start, step) not in done:
                path = walk(start, step)
                done |= {(path[0], path[1]), (path[-1], path[-2])}
                branches.append(path)
        if not around[start]:
            branches.append([start, start])
    passed = {p for path in branches for p in path}
    for start in sorted(pixels - passed):  # rings
        if start not in passed:
            node[start] = start
            path = walk(start, around[start][0])
            passed |= set(path)
            branches.append(path)

    kept = []
    for path in sorted(branches, key=len):
        a, b = path[0], path[-1]
        points = np.array([place(p) for p in path])
        length = float(abs(np.diff(points)).sum())
        breadth = float(max(radius.flat[a], radius.flat[b]))
        degrees = len(around[a]), len(around[b])
        # Where two strokes cross, the skeleton has two junctions and a short way between them.
        if min(degrees) > 2 and root(a) != root(b) and length <= 1.1 * breadth:
            node[root(b)] = root(a)
        elif degrees.count(1) != 1 or length > 1.5 * breadth:  # else it's a spur
            kept.append((a, b, points))
    members: dict[int, list] = defaultdict(list)
    for p in node:
        members[root(p)].append(place(p))
    centre = {r: complex(np.mean(places)) for r, places in members.items()}
    return [[centre[root(a)], centre[root(b)], points] for a, b, points in kept]


def _joined(branches: list[list], radius: np.ndarray) -> list[np.ndarray]:
    """Lines of branches that go straight on where they meet."""
    meeting: dict[complex, list[tuple[int, int]]] = defaultdict(list)
    for i, (start, stop, _) in enumerate(branches):
        meeting[start].append((i, 0))
        meeting[stop].append((i, 1))
    partner: dict[tuple[int, int], tuple[int, int]] = {}
    cut = {}  # points at each end that the junction's breadth bends
    for here, ends in meeting.items():
        breadth = float(radius[round(here.imag), round(here.real)])
        away = {}
        for end in ends:
            points = branches[end[0]][2][:: -1 if end[1] else 1]
            cut[end] = min(round(0.9 * breadth), len(points) // 3) if len(ends) > 1 else 0
            far = points[min(cut[end] + round(2 * breadth) + 2, len(points) - 1)]
            # A short branch's own direction is the junction's; from the node it's steadier.
            near = points[cut[end]] if len(points) > 2 * breadth else here
            away[end] = (far - near) / (abs(far - near) or 1)
        pairs = sorted(
            ((away[a] * np.conj(away[b])).real, a, b) for k, a in enumerate(ends) for b in ends[:k]
        )
        for cosine, a, b in pairs:
            if a not in partner and b not in partner and (cosine < -0.55 or len(ends) == 2):
                partner[a], partner[b] = b, a
    lines, used = [], set()
    every = [(i, side) for i in range(len(branches)) for side in (0, 1)]
    # From free ends first; what's left are rings.
    for begin in sorted(every, key=lambda end: end in partner):
        if begin[0] in used:
            continue
        pieces: list[np.ndarray] = []
        at: tuple[int, int] | None = begin
        while at is not None and at[0] not in used:
            i, side = at
            used.add(i)
            start, stop, points = branches[i]
            piece = points[cut[i, 0] : len(points) - cut[i, 1]]
            if (i, 0) not in partner:
                piece = np.concatenate([[start], piece])
            if (i, 1) not in partner:
                piece = np.concatenate([piece, [stop]])
            pieces.append(piece[:: -1 if side else 1])
            at = partner.get((i, 1 - side))
        closed = at is not None and at == begin
        lines.append(np.concatenate([*pieces, pieces[0][:1]] if closed else pieces))
    return lines


def _smooth(line: np.ndarray) -> np.ndarray:
    """A line a point a pixel, without a skeleton's steps, its ends where they were."""
    line = _spaced(line, max(4, round(abs(np.diff(line)).sum())))
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.5) ** 2)
    before, after = 2 * line[0] - line[4:0:-1], 2 * line[-1] - line[-2:-6:-1]
    if len(line) < 6:
        return line
    return np.convolve(np.concatenate([before, line, after]), kernel / kernel.sum(), "valid")


def _spaced(line: np.ndarray, number: int) -> np.ndarray:
    at = np.concatenate([[0.0], np.cumsum(abs(np.diff(line)))])
    return np.interp(np.linspace(0, at[-1], number), at, line)


def _ordered(lines: list[np.ndarray], strokes: list[np.ndarray]) -> Traced | None:
    """Orders, turns and parts traced lines by a stroke file's; None where no line is left."""
    reference = [_spaced(from_grid(np.asarray(s, np.float64)), POINTS) for s in strokes]
    number = np.repeat(np.arange(len(reference)), POINTS)
    along = np.tile(np.linspace(0, 1, POINTS), len(reference))
    target = np.concatenate(reference)
    heading = np.concatenate([_heading(s) for s in reference])
    (centre, size), (goal, extent) = _box(np.concatenate(lines)), _box(target)
    # The glyph keeps its aspect and gets the place and size of the stroke file's character; for
    # finding strokes both are stretched to one box.
    scale = max(extent.real, extent.imag) / max(size.real, size.imag)
    width, height = max(size.real * scale, 0.2), max(size.imag * scale, 0.2)
    placed = [(line - centre) * scale + goal for line in lines]
    found, gaps = [], []
    for line in placed:
        z = line - goal
        near = z.real * extent.real / width + 1j * z.imag * extent.imag / height + goal
        apart = abs(near[:, None] - target)
        gaps.append(apart)
        # Lines that cross are told apart by where they go.
        across = abs((_heading(near)[:, None] * np.conj(heading)).imag)
        found.append((apart + 0.08 * across).argmin(1))
    gap = np.concatenate(gaps)
    distance = float(max(gap.min(1).mean(), gap.min(0).mean()))
    pieces = []
    for line, nearest in zip(placed, found, strict=True):
        for first, last in _parts(line, number[nearest]):
            piece, which = line[first : last + 1], nearest[first : last + 1]
            key = number[which] + along[which]
            # Strokes that lie far off along the line count by their shares, so medians.
            half = len(key) // 2
            forward = np.median(key[half:]) - np.median(key[:half])
            if abs(forward) < 0.05:  # as most strokes go: to the right and down
                forward = (piece[-1] - piece[0]).real + 1.5 * (piece[-1] - piece[0]).imag
            shares = np.bincount(number[which], minlength=len(reference)) / len(which)
            lies = np.flatnonzero(shares >= min(0.15, shares.max()))
            pieces.append((np.median(key), piece[:: 1 if forward >= 0 else -1], lies[[0, -1]]))
    pieces = [p for p in pieces if abs(np.diff(p[1])).sum() > 0.03] or pieces
    if not pieces:
        return None
    pieces.sort(key=lambda p: p[0])
    grid = [np.conj(piece) * GRID + (512 + 388j) for _, piece, _ in pieces]
    return Traced(
        [np.stack([z.real, z.imag], 1).astype(np.float32) for z in grid],
        np.array([lies for *_, lies in pieces]),
        distance,
    )


def _box(points: np.ndarray) -> tuple[complex, complex]:
    """Centre and size of what points fill."""
    low = points.real.min() + 1j * points.imag.min()
    high = points.real.max() + 1j * points.imag.max()
    return (low + high) / 2, high - low


def _heading(line: np.ndarray) -> np.ndarray:
    """Where a line goes at each of its points: complex of length 1."""
    reach = min(3, len(line) - 1)
    padded = np.pad(line, reach, mode="edge")
    way = padded[2 * reach :] - padded[: -2 * reach]
    return way / np.maximum(abs(way), 1e-9)


def _parts(line: np.ndarray, number: np.ndarray) -> list[tuple[int, int]]:
    """First and last points of the strokes that a traced line consists of."""
    reach = 7
    turn = np.zeros(len(line))
    if len(line) > 2 * reach + 1:
        step = line[reach:] - line[:-reach]
        turn[reach:-reach] = abs(np.angle(step[reach:] * np.conj(step[:-reach])))
    length = np.concatenate([[0.0], np.cumsum(abs(np.diff(line)))])
    cuts = [0]
    for k in np.flatnonzero(turn > _CORNER):
        window = turn[max(0, k - reach) : k + reach + 1]
        if turn[k] < window.max() or k - cuts[-1] < 2 * reach:
            continue
        before, after = number[max(0, k - 14) : k - 2], number[k + 3 : k + 15]
        if len(before) and len(after) and np.median(before) != np.median(after):
            cuts.append(int(k))
    cuts.append(len(line) - 1)
    # What's still too long, loops most of all, is parted where it turns most.
    parts, todo = [], list(zip(cuts[:-1], cuts[1:], strict=True))
    while todo:
        first, last = map(int, todo.pop())
        inner = turn[first + 2 * reach : last - 2 * reach]
        if length[last] - length[first] > _LONGEST and len(inner):
            widest = first + 2 * reach + int(inner.argmax())
            todo += [(first, widest), (widest, last)]
        else:
            parts.append((first, last))
    return parts
