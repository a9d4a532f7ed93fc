"""Trains model 2 of Kriuk & Kriuk 2024: the brick network on images blurred 3×3, σ 20.

  python trainers/trainer2.py --data STORE --workdir RUN2

The paper's settings by default (256×256, five bricks); on little data add for instance
--image-size 64 --model.num_bricks 4 --recipe brick_model2.
"""

import sys

from hccr_tf.cli.main import train_main

if __name__ == "__main__":
    sys.exit(train_main(recipe="kriuk_model2", description=__doc__))
