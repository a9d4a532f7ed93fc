"""The audit of a store: what a person should look at before training, found and ranked.

Nothing is changed. Every fault is a finding with the samples it concerns; checks that are about
images come with a sheet of them. Counts are over all samples (or those of one split), not over a
draw; memory holds a few numbers a sample and the findings, never the images.
"""

from typing import TYPE_CHECKING

import numpy as np

from hccr_tf.audit import checks
from hccr_tf.audit.merged_classes import add_doubts, check_merged, find_merged
from hccr_tf.audit.report import Audit
from hccr_tf.data.store.store import Store
from hccr_tf.utils.progress import progress_bar

if TYPE_CHECKING:  # it reads with Keras
    from hccr_tf.audit.label_issues import LabelIssues


def audit(
    store: Store,
    split: str | None = None,
    label_issues: "LabelIssues | None" = None,
    progress: bool = True,
) -> Audit:
    """Looks for faults in a store.

    `split` limits the samples to one of `Store.indices`; copies and writers are still compared
    with all others. None takes all, copies held out of training included. `label_issues` are a
    model's, filled; samples that they say nothing about are left out there. A bar shows the
    `progress` if standard error is a terminal.

    Raises:
        HccrError: There is no such split, or it is empty.
    """
    indices = np.arange(len(store)) if split is None else store.indices(split)
    with progress_bar("looking at images", 2 * len(indices), progress) as advance:
        answers = [
            *checks.check_duplicates(store, indices),
            *checks.check_writers(store),
            *checks.check_listed(store),
            *checks.check_images(store, indices, advance),
            checks.check_sizes(store, indices),
            *checks.check_balance(store, indices, split),
        ]
        classes = find_merged(store, indices, advance)
    agreement, doubted, run = {}, [], None
    if label_issues is not None:
        classes = add_doubts(classes, *label_issues.by_class(indices))
        agreement, doubted = label_issues.agreement(indices), [label_issues.check(indices)]
        run = label_issues.run
    answers += [*check_merged(classes), *doubted]
    return Audit(store, split, len(indices), answers, classes, run, agreement)
