"""Trains model 1 of Kriuk & Kriuk 2024: the brick network on raw images.

  python trainers/trainer1.py --data STORE --workdir RUN1

The paper's settings by default (256×256, five bricks); on little data add for instance
--image-size 64 --model.num_bricks 4 --recipe brick_model1.
"""

import sys

from hccr_tf.cli.main import train_main

if __name__ == "__main__":
    sys.exit(train_main(recipe="kriuk_model1", description=__doc__))
