"""Trains model 3 of Kriuk & Kriuk 2024: the brick network on images blurred 7×7, σ 50.

  python trainers/trainer3.py --data STORE --workdir RUN3

The paper's settings by default (256×256, five bricks); on little data add for instance
--image-size 64 --model.num_bricks 4 --recipe brick_model3.
"""

import sys

from hccr_tf.cli.main import train_main

if __name__ == "__main__":
    sys.exit(train_main(recipe="kriuk_model3", description=__doc__))
