"""Predicts with model 3: five crops of each image, mean of their logits, into HDF5.

  python predictors/predictor3.py --data STORE --split test --workdir RUN3 --out logits3.h5

The finalizer takes the file with weight 0.5.
"""

import sys

from hccr_tf.cli.main import predict_main

if __name__ == "__main__":
    sys.exit(predict_main(description=__doc__))
