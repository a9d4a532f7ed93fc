"""Fuses the three models' logits, 0.3 / 0.2 / 0.5, and prints the test accuracy.

  python predictors/predictor_finalizer.py logits1.h5 logits2.h5 logits3.h5 \
      --weights 0.3 0.2 0.5 --out RESULTS

Takes logits files of any models and any number of them, of the same samples.
"""

import sys

from hccr_tf.cli.main import fuse_main

if __name__ == "__main__":
    sys.exit(fuse_main(description=__doc__))
