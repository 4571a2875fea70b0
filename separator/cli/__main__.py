"""`python -m separator.cli` is `separate`."""

import sys

from separator.cli import main

sys.exit(main())
