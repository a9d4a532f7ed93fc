"""A data set without a download and without a font: characters drawn as several writers' hands.

A writer is a `HandwritingStyle` of their own: slant, proportions, haste, pen and ink that persist
over everything they write, so that a split by writer parts what differs. Real writers also drop
strokes, change their order and use other forms of a character. Accuracy on these images says that
a pipeline works, not how well a network reads people's handwriting.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hccr_tf.data.sources.gnt import write_gnt
from hccr_tf.synthesis.deform import centre_lines, draw
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.synthesis.style import HandwritingStyle
from hccr_tf.utils.errors import HccrError


def writer_style(rng: np.random.Generator, size: int = 64) -> HandwritingStyle:
    """Draws a writer: their habits, and how little one of their images strays from them.

    The longer side of most writers' images has about `size` pixels.
    """
    side = size * float(np.exp(np.clip(rng.normal(-0.16, 0.16), -0.6, 0.15)))
    pen = 0.055 * float(np.exp(rng.uniform(-0.4, 0.4)))
    return HandwritingStyle(
        # Less than between the images of one hand: the sample's networks are small.
        **dict.fromkeys(("turn", "turn_cursive", "scale", "scale_cursive"), 0.035),
        **dict.fromkeys(("shift", "shift_cursive", "group_shift"), 0.008),
        **dict.fromkeys(("bend", "bend_cursive"), 0.012),
        **dict.fromkeys(("group_scale", "scale_short"), 0.045),
        **dict.fromkeys(("group_turn", "stretch", "turn_all", "slant", "rise"), 0.025),
        careful=1.0,
        smooth_cursive=4.0,
        flow=2.0,
        join=0.5,
        drop=0.01,
        cursive=float(0.8 * rng.random()),
        lean=float(abs(rng.normal(0.045, 0.09))),
        climb=float(abs(rng.normal(0.08, 0.06))),
        aspect=0.06,
        narrow=float(abs(rng.normal(0.16, 0.13))),
        pen_low=pen * 0.92,
        pen_high=pen * 1.08,
        pressure=float(rng.uniform(0.15, 0.5)),
        grain=float(rng.uniform(0.2, 0.7)),
        blur=float(rng.uniform(0.08, 0.22)),
        soften=0.0,
        noise=0.0,
        tone=0.1,
        fade=0.6,
        ink=float(rng.uniform(0.85, 1.0)),
        side_low=side * 0.9,
        side_high=side * 1.1,
    )


def generate_gnt(
    out_dir: str | Path,
    strokes: Mapping[str, Sequence[np.ndarray]] | None = None,
    characters: Iterable[str] | None = None,
    *,
    num_writers: int = 40,
    num_test_writers: int = 10,
    samples_per_writer: int = 4,
    seed: int = 0,
    size: int = 64,
) -> list[Path]:
    """Writes a synthetic data set as CASIA `.gnt` files, one writer a file; returns their paths.

    The training writers' files go to `out_dir/SampleTrain`, those of further, other writers to
    `out_dir/SampleTest`, numbered on: `9001-s.gnt`, `9002-s.gnt` and so on. A file depends
    only on `seed`, its number and the characters, not on how many writers there are.

    Args:
        out_dir: the folder; made if missing. Files of the same names are replaced.
        strokes: centre lines as `load_strokes` returns them; None for the embedded ones.
        characters: what to write; None for all in `strokes`.
        num_writers: writers in `SampleTrain`.
        num_test_writers: writers in `SampleTest`.
        samples_per_writer: images that each writer makes of each character.
        seed: at least 0.
        size: longer side of most writers' images in pixels, about; 16 to 256.

    Raises:
        FileExistsError: one of the two folders holds other `.gnt` files, which would mix two data
            sets and could put one writer on both sides.
        HccrError: a character has no strokes, or a number is out of range.
    """
    strokes = load_strokes() if strokes is None else strokes
    characters = list(strokes if characters is None else characters)
    missing = [c for c in characters if not strokes.get(c)]
    if missing:
        raise HccrError(
            f"No strokes for {', '.join(missing[:10])} ({len(missing)} of {len(characters)} "
            f"characters); there are strokes of {len(strokes)}. Pass a file that holds them "
            "through load_strokes(path), or other characters."
        )
    if num_writers < 1 or num_test_writers < 0 or samples_per_writer < 1 or not characters:
        raise HccrError(
            f"Nothing to write: {num_writers} writers, {num_test_writers} test writers, "
            f"{samples_per_writer} samples, {len(characters)} characters."
        )
    if not 16 <= size <= 256:
        raise HccrError(f"Images have 16 to 256 pixels, not {size}.")
    folders = ["SampleTrain"] * num_writers + ["SampleTest"] * num_test_writers
    paths = [Path(out_dir, name, f"{9001 + i}-s.gnt") for i, name in enumerate(folders)]
    others = sorted(set(Path(out_dir).glob("Sample*/*.gnt")) - set(paths))
    if others:
        raise FileExistsError(
            f"{out_dir} holds {len(others)} other .gnt files, such as {others[0]}. "
            "Delete them or choose another folder."
        )
    lines = {c: centre_lines(strokes[c]) for c in characters}
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        style = writer_style(np.random.default_rng([seed, index]), size)
        written = characters * samples_per_writer
        counts = np.array([len(lines[c]) for c in written])
        seeds = [(seed, index, number) for number in range(len(written))]
        images = draw(np.concatenate([lines[c] for c in written]), counts, seeds, style)
        write_gnt(path, zip(written, images, strict=True))
    return paths
