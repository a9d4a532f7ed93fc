"""What varies in handwriting that's drawn from centre lines, and by how much."""

from dataclasses import dataclass, fields

from hccr_tf.utils.errors import HccrError

MOST_SMOOTH = 8  # points of a stroke's 32 by which strokes and paths can be smoothed


@dataclass(frozen=True)
class HandwritingStyle:
    """How far handwriting strays from its centre lines: standard deviations unless said otherwise.

    Lengths are fractions of the character's side, angles radians. Where there's a `_cursive`
    beside a setting, that much more of it is added for the most cursive hand.

    Attributes:
        cursive: the hastiest hand that's drawn, 1 or so.
        careful: how much more hands are careful than hasty: at 1 all are equally probable up to the
            hastiest, and at 2 half of them are below a quarter of it.
        simple: how much of strokes' and parts' variation and haste a character of one stroke has;
            those of eight or more have all of it. A dot's place tells 千 from 干.
        exchange: share of images for which parts of two sources are put together, where the
            character has parts and the sources' strokes leave them apart.
        between: share of images for which a form between two sources is drawn, as far as both have
            the same strokes.
        clutter: share of images with what cleaning leaves behind, frames' pieces to JPEG's blocks.
        turn, turn_cursive: of each stroke about its centre.
        scale, scale_cursive: of each stroke's length.
        scale_short: as much more of strokes that are dots, half of it at a sixth of the side.
        shift, shift_cursive: of each stroke's place.
        bend, bend_cursive: of the smooth field that all strokes of a character share.
        smooth, smooth_cursive: how far corners are rounded, in thirty-seconds of a stroke.
        flow: how far, in thirty-seconds of a stroke, the path of a hand of 1 is smoothed from
            stroke to stroke, through the air between them too (at most).
        trim: how much of a stroke's beginning may be missing, and of a hook at its end (at most).
        extend: how far a stroke's end may run on, as a part of the stroke (at most).
        group_split: probability that what was written before a stroke and what comes from it on
            are different parts of the character where they lie apart; where they overlap, less.
            Parts move as one.
        group_shift, group_scale, group_turn: of such parts; each axis has its own scale.
        stretch: of uneven widths and heights along each axis.
        join, join_reach: probability, for the most cursive hand, that a stroke is joined to the
            next, and the gap over which it's half as probable.
        pull: how far joined ends reach out for one another (at most).
        drop: probability, for the most cursive hand, that a short stroke is left out.
        turn_all: of the whole character.
        slant, lean: how much, and on the average, verticals lean to the right, as a tangent.
        rise, climb: how much, and on the average, horizontals climb to the right.
        aspect, narrow: how much the logarithm of height over width differs, and its average.
        pen_low, pen_high: width of the pen; logarithms in between are equally probable.
        pressure: relative change of the pen's width along a stroke.
        fade: the lightest that a stroke's ink may be, 0 to 1 of the darkest.
        grain: how much ink may be missing where it runs thin (at most).
        blur: sigma as a part of the pen's width (at most).
        soften: sigma of a camera's or an enlargement's blur (at most; most are far sharper).
        noise: of the ink's grey level from pixel to pixel (at most), as a part of it.
        tone: of the logarithm of the exponent that grey levels of ink are raised to.
        ink: the lightest pen that's drawn with, 0 to 1 of black.
        side_low, side_high: longer side of the image in pixels.
    """

    cursive: float = 1.15
    careful: float = 1.5
    simple: float = 1.0
    exchange: float = 0.3
    between: float = 0.3
    clutter: float = 0.25
    turn: float = 0.065
    turn_cursive: float = 0.065
    scale: float = 0.065
    scale_cursive: float = 0.06
    scale_short: float = 0.12
    shift: float = 0.014
    shift_cursive: float = 0.016
    bend: float = 0.022
    bend_cursive: float = 0.022
    smooth: float = 1.0
    smooth_cursive: float = 3.5
    flow: float = 6.0
    trim: float = 0.12
    extend: float = 0.06
    group_split: float = 0.9
    group_shift: float = 0.03
    group_scale: float = 0.1
    group_turn: float = 0.05
    stretch: float = 0.03
    join: float = 0.9
    join_reach: float = 0.3
    pull: float = 0.5
    drop: float = 0.05
    turn_all: float = 0.06
    slant: float = 0.1
    lean: float = 0.045
    rise: float = 0.1
    climb: float = 0.11
    aspect: float = 0.08
    narrow: float = 0.17
    pen_low: float = 0.013
    pen_high: float = 0.065
    pressure: float = 0.3
    fade: float = 0.3
    grain: float = 0.7
    blur: float = 0.18
    soften: float = 0.025
    noise: float = 0.3
    tone: float = 0.3
    ink: float = 0.45
    side_low: float = 28.0
    side_high: float = 80.0

    def __post_init__(self):
        for setting in fields(self):
            value = getattr(self, setting.name)
            if not isinstance(value, int | float) or not 0 <= value < 1000:
                raise HccrError(f"{setting.name} is a number of at least 0, not {value!r}.")
        for name, most in (
            ("smooth + smooth_cursive * cursive", self.smooth + self.smooth_cursive * self.cursive),
            ("flow * cursive", self.flow * self.cursive),
        ):
            if most > MOST_SMOOTH:
                raise HccrError(f"{name} is at most {MOST_SMOOTH}, not {most:g}.")
        if not 0 < self.pen_low <= self.pen_high <= 0.3:
            raise HccrError("Pens are 0 < pen_low <= pen_high <= 0.3 of the character's side.")
        if not 8 <= self.side_low <= self.side_high <= 512:
            raise HccrError("Sides are 8 <= side_low <= side_high <= 512 pixels.")
