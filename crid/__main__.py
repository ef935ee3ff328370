"""`python -m crid` is the `crid` command."""

import sys

from crid.cli import main

sys.exit(main())
