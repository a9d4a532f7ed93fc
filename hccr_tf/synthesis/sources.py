"""Several sources of one character's strokes: a stroke file and fonts, and what's between them.

Which source an image is of is drawn by the sources' weights, among those that have its character.
Beyond them there are characters with parts of two sources, and forms between two.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hccr_tf.synthesis.deform import centre_lines, parting
from hccr_tf.synthesis.glyphs import Traced, font_facts, trace_font
from hccr_tf.synthesis.style import HandwritingStyle
from hccr_tf.utils.errors import HccrError

_FARTHEST = 0.12  # sides of a character: a glyph that lies farther off is another form of it
_APART = -0.04  # sides by which parts may overlap and still be exchanged


@dataclass(frozen=True)
class Font:
    """A font as a source of strokes."""

    facts: Mapping[str, Any]  # as `glyphs.font_facts` says
    glyphs: Mapping[str, Traced] = field(repr=False)
    weight: float = 1.0  # how often it's drawn; the stroke file's weight is 1
    haste: float = 1.0  # how much of it hands keep: less where the font's own hand runs

    def __post_init__(self):
        if not (0 < self.weight < 1000 and 0 <= self.haste <= 1):
            raise HccrError(
                f"{self.facts.get('name')}: a weight is above 0 and haste from 0 to 1, not "
                f"{self.weight} and {self.haste}"
            )


def read_font(
    path: str | os.PathLike[str],
    strokes: Mapping[str, list[np.ndarray]],
    characters: Collection[str],
    *,
    weight: float = 1.0,
    haste: float = 1.0,
    licence: str | None = None,
) -> Font:
    """Reads a font, a file or a folder of subsets, as a source beside a stroke file.

    Raises:
        FileNotFoundError, HccrError: as `font_facts`; or it has none of the characters.
    """
    facts = font_facts(path, licence)
    glyphs = dict(trace_font(path, strokes, characters))
    if not glyphs:
        raise HccrError(f"{path} has none of the {len(characters)} characters; leave it out")
    return Font(facts, glyphs, weight, haste)


def arrays(
    charset: Iterable[str], strokes: Mapping[str, list[np.ndarray]], fonts: Sequence[Font]
) -> dict[str, np.ndarray]:
    """What a store keeps of all sources: `lines`, `first`, `reference` (see `Sources`)."""
    own = {c: Traced(strokes[c], np.arange(len(strokes[c]))[:, None].repeat(2, 1)) for c in charset}
    lines, counts, reference = [], [], []
    for glyphs in (own, *(font.glyphs for font in fonts)):
        for c in charset:
            glyph = glyphs.get(c)
            if glyph is None or glyph.distance > _FARTHEST:
                counts.append(0)
                continue
            lines.append(centre_lines(glyph.strokes))
            counts.append(len(glyph.strokes))
            reference.append(glyph.reference)
    return {
        "lines": np.concatenate(lines),
        "first": np.cumsum([0, *counts]),
        "reference": np.concatenate(reference).astype(np.int16),
    }


class Sources:
    """Strokes of all characters from all sources.

    Args:
        lines: complex64 (strokes, POINTS): the characters of one source after another.
        first: int (sources * characters + 1,): where each one's strokes begin.
        reference: int (strokes, 2): along which of the first source's strokes they lie.
        weights, haste: one a source.
    """

    def __init__(self, lines, first, reference, weights, haste):
        self.lines, self.reference = lines, reference
        number = len(weights)
        self.classes = (len(first) - 1) // number
        self.start = first[:-1].reshape(number, -1)
        self.count = np.diff(first).reshape(number, -1)
        self.haste = np.asarray(haste, np.float32)
        share = np.where(self.count > 0, np.asarray(weights, float)[:, None], 0)
        self.share = np.cumsum(share / share.sum(0), 0)
        owner = np.repeat(np.arange(self.classes), self.count[0])
        # A cut is the number of the stroke before which a character may be parted.
        gap = parting(np.asarray(lines[: len(owner)]), owner)
        cuts = np.flatnonzero(np.isfinite(gap) & (gap > _APART))
        self.cuts = cuts - self.start[0][owner[cuts]]
        self.first_cut = np.searchsorted(owner[cuts], np.arange(self.classes + 1))

    def choose(
        self, classes: np.ndarray, seeds: Sequence[tuple[int, ...]], variation: HandwritingStyle
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Chooses the strokes of images by their classes (B,), each by its seed.

        Returns:
            complex64 (strokes, POINTS), int (B,) how many each image has, float32 (B,) haste.
        """
        lines, haste = [], np.ones(len(classes), np.float32)
        for i, (c, seed) in enumerate(zip(classes.tolist(), seeds, strict=True)):
            u = np.random.default_rng((*seed, 1)).random(4)
            one, other = self._source(c, u[0]), self._source(c, u[2])
            drawn, haste[i] = self.lines[self._slice(one, c)], self.haste[one]
            if other != one and u[1] < variation.exchange + variation.between:
                mix = self._exchanged if u[1] < variation.exchange else self._between
                mixed = mix(c, one, other, u[3])
                if mixed is not None:
                    drawn, haste[i] = mixed, min(self.haste[one], self.haste[other])
            lines.append(drawn)
        return np.concatenate(lines), np.array([len(x) for x in lines]), haste

    def _source(self, c: int, u: float) -> int:
        return int(np.searchsorted(self.share[:, c], u, side="right").clip(max=len(self.share) - 1))

    def _slice(self, source: int, c: int) -> slice:
        start = self.start[source, c]
        return slice(start, start + self.count[source, c])

    def _exchanged(self, c: int, one: int, other: int, u: float) -> np.ndarray | None:
        """What's before a cut from one source, and the rest from another."""
        cuts = self.cuts[self.first_cut[c] : self.first_cut[c + 1]]
        if not len(cuts):
            return None
        cut = cuts[int(u * len(cuts))]
        parts = []
        for source, after in ((one, False), (other, True)):
            place = self._slice(source, c)
            first, last = self.reference[place].T
            if ((first < cut) & (last >= cut)).any():  # a stroke of both parts
                return None
            parts.append(self.lines[place][(first >= cut) == after])
        return np.concatenate(parts) if all(map(len, parts)) else None

    def _between(self, c: int, one: int, other: int, u: float) -> np.ndarray | None:
        """Strokes of one source on the way to another's, where those are the same ones."""
        a, b = self._slice(one, c), self._slice(other, c)
        same = (self.reference[a][:, None] == self.reference[b]).all(2)
        # Several lines along one stroke are nobody's counterparts.
        same &= (same.sum(1, keepdims=True) == 1) & (same.sum(0) == 1)
        mine, its = np.nonzero(same)
        if not len(mine):
            return None
        drawn = self.lines[a].copy()
        drawn[mine] += np.float32(u) * (self.lines[b][its] - drawn[mine])
        return drawn
