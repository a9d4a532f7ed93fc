"""Draws the rooms of the package, floor above floor, from the import rule in setup.cfg.

.venv/bin/python docs/images/rooms.py        writes rooms.svg beside this file
"""

from configparser import ConfigParser
from pathlib import Path

from hccr_tf.utils.files import atomic_write

FOLDER = Path(__file__).parent
WIDTH, HEIGHT, GAP = 720, 44, 8
WORDS = {
    "cli": "commands",
    "papers": "a room a paper",
    "serving": "HTTP",
    "audit": "faults of data",
    "export": "other engines, the page",
    "training": "the only loop",
    "inference": "images to characters",
    "runs": "folders of trainings",
    "synthesis": "drawn handwriting",
    "evaluation": "metrics, plots",
    "recipe": "a run's settings",
    "data": "sources, store, loading",
    "models": "networks",
    "losses": "losses",
    "images": "one image: decode, clean",
    "charset": "characters in order",
    "pretrained": "weights",
    "utils": "of no field: files, errors, registry",
}


def draw(setup: str) -> str:
    """Draws the floors of a setup.cfg's text as SVG, which follows a page's light and dark."""
    parser = ConfigParser()
    parser.read_string(setup)
    layers = parser["importlinter:contract:layers"]["layers"].split("\n")
    floors = [
        [room.strip().removeprefix("hccr_tf.") for room in layer.replace("|", ",").split(",")]
        for layer in layers
        if layer.strip() and "__main__" not in layer
    ]
    height = len(floors) * (HEIGHT + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" text-anchor="middle">',
        f"<title>{' / '.join(', '.join(floor) for floor in floors)}</title>",
    ]
    for i, floor in enumerate(floors):
        width = (WIDTH - GAP * (len(floor) + 1)) / len(floor)
        for j, room in enumerate(floor):
            left, top = GAP + j * (width + GAP), GAP + i * (HEIGHT + GAP)
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT}" rx="6" '
                'fill="#009688" fill-opacity=".14" stroke="#009688"/>'
            )
            for text, down, style in (
                (room, 19, 'font-size="15" font-weight="600"'),
                (WORDS.get(room, ""), 35, 'font-size="11.5"'),
            ):
                parts.append(
                    f'<text x="{left + width / 2:.1f}" y="{top + down}" fill="#009688" {style}>'
                    f"{text}</text>"
                )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    with atomic_write(FOLDER / "rooms.svg") as temporary:
        text = draw((FOLDER.parents[1] / "setup.cfg").read_text("utf-8"))
        temporary.write_text(text, "utf-8")
