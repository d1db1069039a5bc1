"""`python3 -m dev.manifests`: see check.py."""

import sys

from dev.manifests.check import main

sys.exit(main())
