"""Export weights to an ONNX file: python scripts/export_onnx.py --help."""

import sys

from s2ld.cli.export.onnx import script

if __name__ == "__main__":
    sys.exit(script())
