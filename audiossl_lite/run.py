"""The strict runner, `python -m audiossl_lite.run NOTEBOOK --preset lite -p seed=1`: see `audiossl_lite.book.run`."""

import sys

from audiossl_lite.book.run import main

if __name__ == "__main__":
    sys.exit(main())
