"""`python -m separator.cli` runs the command `separate`."""

import sys

from separator.cli import main

sys.exit(main())
