"""Predicts with model 2: five crops of each image, mean of their logits, into HDF5.

  python predictors/predictor2.py --data STORE --split test --workdir RUN2 --out logits2.h5

The finalizer takes the file with weight 0.2.
"""

import sys

from hccr_tf.cli.main import predict_main

if __name__ == "__main__":
    sys.exit(predict_main(description=__doc__))
