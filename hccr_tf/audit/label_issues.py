"""Labels that a trained run doubts, ranked."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from hccr_tf.audit.checks import WARNING, Check, find_sample
from hccr_tf.charset import Charset
from hccr_tf.data.loading.loader import Loader
from hccr_tf.data.store import splits
from hccr_tf.data.store.store import Store
from hccr_tf.inference.predictor import Predictor, iterate_logits
from hccr_tf.utils.errors import HccrError


class LabelIssues:
    """What a trained model says against the labels, gathered batch by batch.

    A sample is ranked by its margin: the highest logit of another class minus the logit of its
    own. Above 0 the model reads another class. Why not the probabilities: two networks, or one at
    two temperatures, give one ranking by margins and different ones by differences of
    probabilities, which are also all close to 1 among the clearest cases, the ones looked for.

    A model trained on the same labels has learnt some of the wrong ones by heart, so what it
    disagrees with is suspicious and what it agrees with is not thereby right. Held-out splits
    speak the more plainly. `charset` is the model's, in class order, and `run` its name.

    Attributes:
        margin: Shape (samples of the store,), float32; NaN where nothing was said.
        other: Shape (samples of the store,), int32: the other class in the model's charset.

    Raises:
        HccrError: The charset doesn't cover the store; the message names what it lacks.
    """

    def __init__(self, store: Store, charset: Charset, run: str):
        self.store, self.charset, self.run = store, charset, run
        # Of the store's own order: labels of a batch must not come from another charset's.
        self._classes = store.labels_for(charset, np.arange(len(store)))
        self.margin = np.full(len(store), np.nan, np.float32)
        self.other = np.full(len(store), -1, np.int32)

    def add(self, logits: np.ndarray, indices: np.ndarray) -> None:
        """Takes logits or log-probabilities (n, classes of the charset) of the samples (n,).

        Raises:
            HccrError: There are not as many logits as classes.
        """
        if logits.shape != (len(indices), len(self.charset)):
            raise HccrError(
                f"logits of shape {logits.shape} don't fit {len(indices)} samples and "
                f"{len(self.charset)} classes"
            )
        rows, own = np.arange(len(indices)), self._classes[indices]
        rest = np.array(logits, np.float32)
        own_logits = rest[rows, own]
        rest[rows, own] = -np.inf
        self.other[indices] = rest.argmax(axis=1)
        self.margin[indices] = rest.max(axis=1) - own_logits

    def check(self, indices: np.ndarray) -> Check:
        """Finds the samples of `indices` that the model reads as another class, clearest first."""
        doubted = indices[self.margin[indices] > 0]  # NaN is not.
        doubted = doubted[np.argsort(-self.margin[doubted], kind="stable")]
        others = map(self.charset.char, self.other[doubted].tolist())
        return Check(
            "likely_wrong_labels",
            WARNING,
            "samples that the model reads as another class",
            "look at the first: the ranking is by doubt, the further down the more often it is the "
            "model that errs",
            [
                find_sample(self.store, i, float(self.margin[i]), f"read as {other}")
                for i, other in zip(doubted, others, strict=True)
            ],
            lambda f: f"{f.character}→{f.note[-1]}",
        )

    def agreement(self, indices: np.ndarray) -> dict[str, float]:
        """Returns the share of `indices` that the model reads as labelled, by split."""
        judged = self._judged(indices)
        shares = (~judged["doubted"]).groupby(judged["split"]).mean()
        names = [splits.SPLIT_NAMES[code] for code in shares.index]
        return dict(zip(names, shares.tolist(), strict=True))

    def by_class(self, indices: np.ndarray) -> tuple[dict[int, float], dict[int, str]]:
        """Returns the share of each class that is doubted, and as what it's mostly read then."""
        judged = self._judged(indices)
        others = judged[judged["doubted"]].groupby("label")["other"]
        most: dict = {label: Counter(read).most_common(1)[0][0] for label, read in others}
        read_as = {label: self.charset.char(other) for label, other in most.items()}
        return {**judged.groupby("label")["doubted"].mean()}, read_as

    def _judged(self, indices: np.ndarray) -> pd.DataFrame:
        """A row for each of the samples that the model said something about."""
        judged = indices[~np.isnan(self.margin[indices])]
        columns = {"label": self.store.labels, "split": self.store.split, "other": self.other}
        table = pd.DataFrame({name: values[judged] for name, values in columns.items()})
        return table.assign(doubted=self.margin[judged] > 0)


def predict_label_issues(
    workdir: str | Path, store: Store, *, split: str = "all", batch_size: int = 64
) -> LabelIssues:
    """Predicts a split from whole images, without crops, and compares with the labels.

    Memory grows by eight bytes a sample.

    Raises:
        HccrError: No run, a charset that doesn't cover the store (the message names what
            it lacks), an empty split.
    """
    predictor = Predictor(workdir)
    issues = LabelIssues(store, predictor.charset, str(workdir))
    reader = Loader(store, split, predictor.preprocessing, batch_size, charset=predictor.charset)
    for logits, _, indices in iterate_logits(predictor, reader):
        issues.add(logits[:, 0], indices)
    return issues
