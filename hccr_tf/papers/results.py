"""Results that `hccr reproduce` wrote, found again."""

from collections.abc import Sequence
from pathlib import Path

from hccr_tf.papers.base import get_experiment
from hccr_tf.papers.plans import SCALES
from hccr_tf.utils.files import read_json


def find_results(name: str, folders: Sequence[str | Path]) -> Path:
    """The folder of an experiment's tables and images.

    Args:
        name: of the experiment.
        folders: where to look, the best first: each holds results as `hccr reproduce` leaves
            them: of the paper's scale, of real-small, of runs that were named, of smoke; the
            first of these that there is.

    Raises:
        FileNotFoundError: there are none; it says which command makes them.
    """
    for folder in map(Path, folders):
        # Named runs are real ones; smoke shows that it works.
        for place in (
            *(folder / scale / name for scale in SCALES[:-1]),
            folder / name,
            folder / SCALES[-1] / name,
        ):
            about = place / "about.json"
            if about.exists() and read_json(about).get("experiment") == name:
                return place
    looked = " or ".join(str(Path(folder).resolve()) for folder in folders)
    command = f"hccr reproduce {name}"
    ways = f"`{command} --data STORE --workdir RUN…` with runs that are trained"
    if get_experiment(name).plan:
        ways = (
            f"`{command} --scale smoke` (drawn handwriting, minutes) or "
            f"`{command} --data STORE --scale real-small` (hours)"
        )
    raise FileNotFoundError(
        f"There are no results of {name} in {looked}. In the repository's folder run {ways}; or "
        "set HCCR_RESULTS to the folder of your own results before starting Jupyter."
    )
