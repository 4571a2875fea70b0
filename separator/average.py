"""`python -m separator.average MODEL... FILE.safetensors`: see `separator.train.average`."""

import sys

from separator.train.average import average, main

__all__ = ["average", "main"]

if __name__ == "__main__":
    sys.exit(main())
