"""What a trained run says against a store's labels, for the audit."""

from pathlib import Path

from hccr_tf.audit.audit import Disagreement
from hccr_tf.data.loading.loader import Loader
from hccr_tf.data.store.store import Store
from hccr_tf.inference.predictor import Predictor, iterate_logits


def predict_disagreement(
    workdir: str | Path, store: Store, *, split: str = "all", batch_size: int = 64
) -> Disagreement:
    """Predicts a split from whole images, without crops, and compares with the labels.

    Memory grows by eight bytes a sample.

    Args:
        workdir: folder of a training run.
        store: data to read; its characters must lie in the run's charset.
        split: "train", "validation", "test", "duplicate" or "all".
        batch_size: images at a time.

    Returns:
        The disagreement, filled for the split.

    Raises:
        HccrError: no run, a charset that doesn't cover the store (the message names what
            it lacks), an empty split.
    """
    predictor = Predictor(workdir)
    disagreement = Disagreement(store, predictor.charset)
    reader = Loader(store, split, predictor.preprocessing, batch_size, charset=predictor.charset)
    for logits, _, indices in iterate_logits(predictor, reader):
        disagreement.add(logits[:, 0], indices)
    return disagreement
