"""Results that `hccr reproduce` wrote, found again."""

from collections.abc import Sequence
from pathlib import Path

from hccr_tf.experiments.plans import SCALES
from hccr_tf.files import read_json


def find_results(name: str, folders: Sequence[str | Path]) -> Path:
    """The folder of an experiment's tables and pictures.

    Args:
        name: of the experiment.
        folders: where to look, the best first: each holds results as `hccr reproduce` leaves
            them, DIR/SCALE/NAME or DIR/NAME. Of several scales the largest is taken.

    Raises:
        FileNotFoundError: there are none; it says which command makes them.
    """
    for folder in map(Path, folders):
        for place in (*(folder / scale / name for scale in SCALES), folder / name):
            about = place / "about.json"
            if about.exists() and read_json(about).get("experiment") == name:
                return place
    raise FileNotFoundError(
        f"There are no results of {name} in {' or '.join(str(Path(f).resolve()) for f in folders)}."
        f" Run `hccr reproduce {name} --scale smoke` in the repository's folder (seconds, drawn "
        f"handwriting), or `hccr reproduce {name} --data STORE --scale real-small` (hours); or set "
        "HCCR_RESULTS to the folder of your own results before starting Jupyter."
    )
