"""A store whose images are drawn when they're asked for, from stroke centre lines.

It's read as a `Store` is: `hccr train --data` takes it. Its training images are new in every
epoch; each is a pure function of its number, so orders, resuming and processes work as they do
with images on disk. What lies on disk is the centre lines.

The centre lines come from a file `{character: [[[x, y], ...], ...]}` as Make Me a Hanzi's
`graphics.txt` gives them (its `medians`); the package carries those of fifteen numerals only.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.dataset import Dataset, shortened
from hccr_tf.data.store.format import MANIFEST
from hccr_tf.data.store.format import STROKES_FORMAT as FORMAT
from hccr_tf.synthesis.clutter import clutter
from hccr_tf.synthesis.deform import draw
from hccr_tf.synthesis.geometry import POINTS
from hccr_tf.synthesis.sources import Font, Sources, arrays
from hccr_tf.synthesis.style import HandwritingStyle
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import read_json, replace_directory, sha256_file, write_json
from hccr_tf.utils.schema import Count, Share, between, check_range, read_array
from hccr_tf.utils.settings import from_plain

_FARTHEST = 4  # sides of a character from its corner
_MOST_STROKES = 1000  # of a character
_SCHEMA = {
    "version": int,
    "num_strokes": Count,
    "variation": dict[str, Any],
    "per_class": Annotated[int, between(1, 2**31)],
    "common": Annotated[int, between(1, 100)],
    **dict.fromkeys(("held_out", "seed"), Annotated[int, between(0, 2**31)]),
    "sources": [
        {
            **{"name": str, "sha256": str, "num_characters": Count},
            "weight": Annotated[float, between(1e-9, 1000)],
            "haste": Share,
        }
    ],
}
_VERSION = 5  # of how images are drawn: another one draws others from the same settings


class StrokeDataset(Dataset):
    """An opened store of stroke centre lines.

    Images are numbered: the number's remainder by the length of `_order` says the class. The first
    `held_out` of each class validate, as many are for tests, and all others are for training:
    `per_class` of each class in an epoch; of characters of GB2312 level 1 `common` times as many.

    `variation` says how images differ from the centre lines.
    """

    format = FORMAT
    schema = _SCHEMA
    remedy = "hccr data strokes"

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__(path)
        if self.manifest["version"] != _VERSION:
            raise HccrError(
                f"{self.path} is of a version of this package that drew otherwise; make it again "
                f"with `{self.remedy}`"
            )
        manifest = self.path / MANIFEST
        self.variation = from_plain(HandwritingStyle, self.manifest["variation"], manifest)
        self.per_class: int = self.manifest["per_class"]
        self.held_out: int = self.manifest["held_out"]
        common = Charset.named("gb2312-1")
        times = [self.manifest["common"] if c in common else 1 for c in self.charset]
        self._order = np.repeat(np.arange(len(times)), times)
        self.seed: int = self.manifest["seed"]
        if self.data_hash != _data_hash(self.manifest):
            raise HccrError(f"{manifest} was altered: data_hash does not fit it")
        if not self.manifest["sources"]:
            raise HccrError(f"{manifest}: sources is empty; make it again with `{self.remedy}`")
        sources, again = self.manifest["sources"], f"make it again with `{self.remedy}`"
        paths = [self.path / f"{name}.npy" for name in ("lines", "first", "reference")]
        length = 1 + len(sources) * len(self.charset)
        first = read_array(paths[1], np.int64, length=length, remedy=again)
        strokes, ends = int(first[-1]), first[[0, -1]]
        lines = read_array(paths[0], np.complex64, POINTS, length=strokes, remedy=again)
        reference = read_array(paths[2], np.int16, 2, length=strokes, remedy=again)
        # The first source has every character; the others' strokes lie along its own.
        counts = np.diff(first).reshape(len(sources), -1)
        check_range(counts, np.eye(len(sources), 1, dtype=int), _MOST_STROKES, paths[1], again)
        check_range(ends, 0, [0, strokes], paths[1], again)
        own = np.tile(counts[0], len(sources)).repeat(counts.ravel())
        check_range(reference, 0, own[:, None] - 1, paths[2], again)
        check_range(abs(lines), 0, _FARTHEST, paths[0], again)
        hands = [source["weight"] for source in sources], [source["haste"] for source in sources]
        self._sources = Sources(lines, first, reference, *hands)

    def __len__(self) -> int:
        return len(self._order) * (self.per_class + 2 * self.held_out)

    def indices(self, split: str) -> np.ndarray:
        """int64: numbers of a split's images, of "train" those of epoch 0; HccrError for none."""
        held_out, every = self.held_out, 2 * self.held_out + self.per_class
        draws = {"train": (2 * held_out, every)}
        if held_out:
            draws |= {"validation": (0, held_out), "test": (held_out, 2 * held_out)}
        draws["all"] = 0, every
        if split not in draws:
            names = ", ".join(draws)
            raise HccrError(f"{self.path} has no images in split {split!r}; it has {names}")
        first, last = draws[split]
        return np.arange(first * len(self._order), last * len(self._order))

    def at_epoch(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        """The images that stand for those of epoch 0 in another epoch: others in training."""
        turn = len(self._order)
        trained = indices >= 2 * self.held_out * turn
        return np.where(trained, indices + epoch * self.per_class * turn, indices)

    def images(self, indices: np.ndarray) -> list[np.ndarray]:
        """Draws images by their numbers (n,), each uint8 (height, width), ink dark on 255."""
        indices = np.asarray(indices, np.int64)
        if not len(indices):
            return []
        seeds = [(self.seed, index) for index in indices.tolist()]
        classes = self.class_indices(indices)
        lines, counts, haste = self._sources.choose(classes, seeds, self.variation)
        images = draw(lines, counts, seeds, self.variation, haste)
        for i, seed in enumerate(seeds):
            rng = np.random.default_rng((*seed, 2))
            if rng.random() < self.variation.clutter:
                images[i] = clutter(images[i], rng)
        return images

    def class_indices(self, indices: np.ndarray) -> np.ndarray:
        """int64 (n,): class indices under the store's own charset."""
        return self._order[np.asarray(indices) % len(self._order)]

    def sample_ids(self, indices: Iterable[int]) -> list[str]:
        """Images' characters and numbers."""
        indices = np.fromiter(indices, np.int64)
        characters = map(self.charset.char, self.class_indices(indices).tolist())
        return [f"{c}#{i}" for c, i in zip(characters, indices.tolist(), strict=True)]

    def _facts(self) -> list[tuple[str, str]]:
        m = self.manifest
        images = (
            f"drawn when asked for: {m['per_class']} new ones of each character in an epoch, "
            f"{m['held_out']} each in validation and test; of characters of GB2312 level 1 "
            f"{m['common']} times as many"
        )
        lines = [
            ("strokes", f"{m['num_strokes']:,} centre lines of {m['num_classes']:,} characters"),
            ("images", images),
            ("charset", f"{shortened(self.charset.text)} (SHA-256 {self.charset.sha256[:12]}…)"),
        ]
        for source in m["sources"]:
            text = f"{source['name']}, weight {source['weight']:g}: {source['num_characters']:,}"
            lines.append(("source", f"{text} characters (SHA-256 {source['sha256'][:12]}…)"))
        return lines


def make_stroke_store(
    strokes: Mapping[str, list[np.ndarray]],
    out: str | os.PathLike[str],
    *,
    source: Mapping[str, Any],
    weight: float = 1.0,
    fonts: Sequence[Font] = (),
    charset: Charset | None = None,
    variation: HandwritingStyle | None = None,
    per_class: int = 8,
    held_out: int = 1,
    common: int = 1,
    seed: int = 1,
    overwrite: bool = False,
) -> StrokeDataset:
    """Writes a store of stroke centre lines.

    Args:
        strokes: as `load_strokes` reads them.
        out: the new folder.
        source: what the manifest says of where the strokes come from.
        weight: how often these strokes are drawn, beside the fonts' weights.
        fonts: other sources of the same characters; each may lack some.
        charset: the classes, each of which needs strokes; if None all characters of `strokes`.
        variation: how images differ from the centre lines.
        per_class: training images of each class in an epoch.
        held_out: images of each class for validation, and as many for tests.
        common: how many times as many of all these characters of GB2312 level 1 have.
        seed: of all images.
        overwrite: whether to replace a store of strokes that's there.

    Raises:
        FileExistsError: something else lies there, or a store and `overwrite` is False.
        HccrError: characters without strokes, or numbers out of range.
    """
    charset = charset or Charset.sorted(strokes)
    missing = [c for c in charset if not strokes.get(c)]
    if missing:
        raise HccrError(
            f"no strokes for {len(missing)} of {len(charset)} characters: {' '.join(missing[:20])}"
        )
    if per_class < 1 or held_out < 0 or seed < 0 or not 1 <= common <= 100:
        raise HccrError("per_class is at least 1, held_out and seed at least 0, common 1 to 100")
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        is_ours = (out / MANIFEST).is_file() and (read_json(out / MANIFEST).get("format") == FORMAT)
        if not (overwrite and is_ours):
            raise FileExistsError(
                f"{out} exists already; choose another --out"
                + (" or add --overwrite" if is_ours else "")
            )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = Path(folder) / "store"
        made.mkdir()
        content, files = arrays(charset, strokes, fonts), {}
        for name, array in content.items():
            file = made / f"{name}.npy"
            np.save(file, array)
            files[file.name] = {"num_bytes": file.stat().st_size, "sha256": sha256_file(file)}
        counts = np.diff(content["first"]).reshape(1 + len(fonts), -1)
        hands = [(source, weight, 1.0), *((f.facts, f.weight, f.haste) for f in fonts)]
        sources = [
            {**facts, "weight": w, "haste": haste, "num_characters": int((own > 0).sum())}
            for (facts, w, haste), own in zip(hands, counts, strict=True)
        ]
        manifest = {
            "format": FORMAT,
            "version": _VERSION,
            "charset": {"characters": charset.text, "sha256": charset.sha256},
            "num_classes": len(charset),
            "num_strokes": int(content["first"][-1]),
            "points": POINTS,
            "sources": sources,
            "variation": asdict(variation or HandwritingStyle()),
            "per_class": per_class,
            "held_out": held_out,
            "common": common,
            "seed": seed,
            "files": files,
        }
        manifest["data_hash"] = _data_hash(manifest)
        write_json(made / MANIFEST, manifest)
        replace_directory(made, out)
    return StrokeDataset(out)


def _data_hash(manifest: Mapping[str, Any]) -> str:
    """What identifies the images: lines, classes, variation, splits."""
    names = ["format", "version", "charset", "variation", "per_class", "held_out", "common", "seed"]
    content = {name: manifest[name] for name in [*names, "files"]}
    content["sources"] = [(source["weight"], source["haste"]) for source in manifest["sources"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
