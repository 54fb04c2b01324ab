"""`hf-ser cross-corpus`, as a file: see its --help."""

import sys

from hf_ser.cli.cross_corpus import main

if __name__ == "__main__":
    sys.exit(main())
