"""`python -m separator.publish MODEL FOLDER`: see `separator.zoo.publish`."""

import sys

from separator.zoo.publish import main, publish, upload

__all__ = ["main", "publish", "upload"]

if __name__ == "__main__":
    sys.exit(main())
