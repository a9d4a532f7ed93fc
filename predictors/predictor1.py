"""Predicts with model 1: five crops of each image, mean of their logits, into HDF5.

  python predictors/predictor1.py --data STORE --split test --workdir RUN1 --out logits1.h5

The finalizer takes the file with weight 0.3.
"""

import sys

from hccr_tf.cli.main import predict_main

if __name__ == "__main__":
    sys.exit(predict_main(description=__doc__))
