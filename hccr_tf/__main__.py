"""`python -m hccr_tf` is the command `hccr`."""

import sys

from hccr_tf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
