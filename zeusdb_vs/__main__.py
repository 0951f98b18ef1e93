"""``python -m zeusdb_vs`` is the ``zeusdb-vs`` command."""

import sys

from zeusdb_vs.cli import main

if __name__ == "__main__":
    sys.exit(main())
