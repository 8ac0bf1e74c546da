#!/usr/bin/env bash
# S2LD-Lite from nothing, on two CPU cores or a GPU: small images first, then larger ones; docs/training.md tells what
# it costs and gives. With --max_time MINUTES it stops in time; called again, it goes on from the last checkpoint.
# Further arguments go to train.py, e.g. DATA.PHOTOS my/photographs, or --accelerator gpu --devices 1 DATA.BATCH_SIZE 32.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # two processes of one thread train more pairs a second than one of two

finished() { # FOLDER, MAX_STEPS: whether the exported weights are of the last step
  [[ -e "$1/s2ld.safetensors" ]] && python -c 'import sys; from s2ld.models.checkpoint import read_weights
sys.exit(int(read_weights(sys.argv[1]).metadata["steps"]) < int(sys.argv[2]))' "$1/s2ld.safetensors" "$2"
}

phase() { # NAME, MAX_STEPS, then arguments of train.py
  local folder="logs/lite/$1" steps="$2"
  shift 2
  if finished "$folder" "$steps"; then return; fi
  python train.py configs/data/mixture.yaml configs/s2ld/outdoor/s2ld_lite.yaml \
    --output "$folder" --resume auto --accelerator cpu --devices 2 \
    DATA.BATCH_SIZE 4 DATA.WORKERS 1 TRAIN.MAX_STEPS "$steps" TRAIN.CHECKPOINT_EVERY 100 "$@"
  if ! finished "$folder" "$steps"; then
    echo "$folder: stopped before step $steps; call this script again to go on"
    exit 0
  fi
}

# the learning rate falls by a quarter only; the next phase goes on from there
phase 1-small 2000 DATA.IMAGE_SIZE "[256,192]" TARGETS.FINE_MIN_TRUE 500 TRAIN.FINAL_LR_RATIO 0.75 "$@"
phase 2-large 4000 DATA.SEED 1 TRAIN.WARMUP_STEPS 12 TRAIN.INIT_WEIGHTS logs/lite/1-small/last.ckpt "$@"
