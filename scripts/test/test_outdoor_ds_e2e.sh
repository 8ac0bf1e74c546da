#!/usr/bin/env bash
# MegaDepth-1500 with the dense outdoor configuration; further arguments go to test.py (e.g. --weight FILE).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python test.py configs/data/megadepth_test_1500.yaml configs/s2ld/outdoor/s2ld_kp_ds_dense.yaml \
  --output dump/megadepth_1500 "$@"
