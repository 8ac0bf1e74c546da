#!/usr/bin/env bash
# End-to-end training on MegaDepth, dense supervision: 2 GPUs, 640x640. Further arguments go to train.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

python train.py \
  configs/data/megadepth_trainval_640.yaml \
  configs/s2ld/outdoor/s2ld_kp_ds_dense.yaml \
  --output logs/outdoor-ds-e2e \
  --accelerator gpu --devices 2 \
  DATA.BATCH_SIZE 1 DATA.WORKERS 4 TRAIN.PRECISION auto \
  "$@"
