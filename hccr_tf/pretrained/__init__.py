"""Weights that come with the package: a run's folder like any other, made small.

`recogniser/MODEL_CARD.md` says what they were trained on, how, and what they read.
"""

from pathlib import Path

from hccr_tf.utils.errors import HccrError

NAME = "recogniser"
FOLDER = Path(__file__).parent / NAME
EXPORTED = "recogniser.onnx"  # the same weights for ONNX Runtime, which reads without Keras


def find_run(workdir: str | Path | None) -> Path:
    """The folder of a run; the package's own for None or, where no such folder is, "recogniser".

    Raises:
        HccrError: no weights come with this version.
    """
    if workdir is not None and (str(workdir) != NAME or Path(workdir).exists()):
        return Path(workdir)
    if not (FOLDER / "recipe.json").exists():
        raise HccrError(
            "No weights come with this copy of the package. Name a trained run: --workdir RUN."
        )
    return FOLDER
