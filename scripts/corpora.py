"""`hf-ser corpora`, as a file: see its --help."""

import sys

from hf_ser.cli.corpora import main

if __name__ == "__main__":
    sys.exit(main())
