#!/usr/bin/env bash
# The recipe of weights/s2ld-lite.safetensors, from nothing, on two CPU cores: small images first, then larger ones.
# With --max_time MINUTES it stops in time; called again, it goes on from the last checkpoint.
# Further arguments go to train.py, e.g. DATA.PHOTOS my/photographs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export OMP_NUM_THREADS=1 # two processes of one thread train more pairs a second than one process of two

finished() { # FOLDER, MAX_STEPS: whether the exported weights are of the last step
  [[ -e "$1/s2ld.safetensors" ]] && python -c 'import sys; from s2ld.models.checkpoint import read_weights
sys.exit(int(read_weights(sys.argv[1]).metadata["steps"]) < int(sys.argv[2]))' "$1/s2ld.safetensors" "$2"
}

phase() { # NAME, MAX_STEPS, then arguments of train.py
  local folder="logs/lite/$1" steps="$2"
  shift 2
  if finished "$folder" "$steps"; then return; fi
  python train.py configs/data/homography_synthetic.yaml configs/s2ld/outdoor/s2ld_lite.yaml \
    --output "$folder" --resume auto --accelerator cpu --devices 2 \
    DATA.BATCH_SIZE 4 DATA.WORKERS 1 TRAIN.MAX_STEPS "$steps" TRAIN.CHECKPOINT_EVERY 25 TRAIN.VALIDATE_EVERY 400 "$@"
  if ! finished "$folder" "$steps"; then
    echo "$folder: stopped before step $steps; call this script again to go on"
    exit 0
  fi
}

# wide changes of view at 256x192: the schedule stops at 0.94 of the learning rate, the next phase goes on from it
phase 1-wide 675 DATA.IMAGE_SIZE "[256,192]" TARGETS.FINE_MIN_TRUE 300 TRAIN.FINAL_LR_RATIO 0.94 \
  DATA.HOMOGRAPHY.ROTATION 20.0 DATA.HOMOGRAPHY.TILT 35.0 DATA.HOMOGRAPHY.ZOOM "[0.5,1.0]" \
  DATA.HOMOGRAPHY.OVERLAP "[0.3,1.0]" DATA.SYNTHETIC.ROTATION 15.0 DATA.SYNTHETIC.BASELINE "[0.05,0.6]" \
  DATA.SYNTHETIC.OVERLAP "[0.2,1.0]" "$@"
# changes of view as the config has them
phase 2-small 875 DATA.IMAGE_SIZE "[256,192]" TARGETS.FINE_MIN_TRUE 300 TRAIN.FINAL_LR_RATIO 0.77 \
  TRAIN.CANONICAL_LR 9.6e-3 TRAIN.WARMUP_STEPS 60 DATA.SEED 1 TRAIN.INIT_WEIGHTS logs/lite/1-wide/last.ckpt "$@"
# larger images, the learning rate down to its end
phase 3-large 1600 DATA.IMAGE_SIZE "[320,240]" TARGETS.FINE_MIN_TRUE 400 \
  TRAIN.CANONICAL_LR 4.8e-3 TRAIN.WARMUP_STEPS 50 DATA.SEED 2 TRAIN.INIT_WEIGHTS logs/lite/2-small/s2ld.safetensors "$@"
