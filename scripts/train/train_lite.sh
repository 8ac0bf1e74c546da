#!/usr/bin/env bash
# S2LD-Lite from nothing, on two CPU cores or a GPU: crops at native resolution, then whole images of growing size, then
# the consensus on its candidates, then all of it together. docs/training.md tells what it costs and gives.
# With --max-time MINUTES it stops in time; called again, it goes on from the last checkpoint. Further arguments go to
# train.py, e.g. --accelerator gpu --devices 1 DATA.BATCH_SIZE 32.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# Where the data lies (docs/data.md tells what it is and where to get it)
PHOTOS="${PHOTOS:-data/photos}"                # photographs of anything
SCENES="${SCENES:-data/real_scenes}"           # multi-view scenes in MegaDepth's form
PLACES="${PLACES:-data/photo_scenes}"          # further ones, of `s2ld build-dataset`
LIGHT="${LIGHT:-data/light}"                   # photographs of one view in other light
POSED_PAIRS="${POSED_PAIRS:-data/posed_pairs}" # photographs with surveyed cameras, which validate only
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # two processes of one thread train more pairs a second than one of two
OUTPUT="${OUTPUT:-logs/lite}"
read -r -a STEPS <<<"${STEPS:-12500 8000 5000 1200 2000}" # of the five phases
CONFIGS=(configs/data/mixture_wide.yaml configs/data/validation.yaml configs/s2ld/outdoor/s2ld_lite.yaml)
DATA=(DATA.PHOTOS "$PHOTOS" DATA.MEGADEPTH.ROOT "['$SCENES','$PLACES']" DATA.MEGADEPTH.TEST_ROOT "$SCENES"
  DATA.LIGHT.ROOT "$LIGHT" DATA.POSED_PAIRS.ROOT "$POSED_PAIRS")

LAYOUT=(MODEL.INPUT.NORMALISATION local) # what docs/training.md found to help; the shipped weights have learned without

finished() { # FOLDER, MAX_STEPS: whether the exported weights are of the last step
  [[ -e "$1/s2ld.safetensors" ]] && python -c 'import sys; from s2ld.models.checkpoint import read_weights
sys.exit(int(read_weights(sys.argv[1]).metadata["steps"]) < int(sys.argv[2]))' "$1/s2ld.safetensors" "$2"
}

phase() { # NAME, MAX_STEPS, then arguments of train.py
  local folder="$OUTPUT/$1" steps="$2"
  shift 2
  if finished "$folder" "$steps"; then return; fi
  python train.py "${CONFIGS[@]}" --output "$folder" --resume auto --accelerator cpu --devices 2 DATA.WORKERS 1 \
    "${DATA[@]}" "${LAYOUT[@]}" TRAIN.MAX_STEPS "$steps" TRAIN.CHECKPOINT_EVERY 100 "$@"
  if ! finished "$folder" "$steps"; then
    echo "$folder: stopped before step $steps; call this script again to go on"
    exit 0
  fi
}

# 200,000 pairs of crops, 16 a step; each phase goes on at the learning rate at which the one before it ended
phase 1-crops "${STEPS[0]}" DATA.IMAGE_SIZE "[160,128]" DATA.BATCH_SIZE 8 DATA.CROP.SHARE 0.8 TARGETS.FINE_MIN_TRUE 500 \
  DATA.HOMOGRAPHY.CURRICULUM 60000 MODEL.CONSENSUS.ENABLED False TRAIN.FINAL_LR_RATIO 0.75 TRAIN.VALIDATE_EVERY 2500 "$@"
# 64,000 pairs, 8 a step
phase 2-small "${STEPS[1]}" DATA.IMAGE_SIZE "[256,192]" DATA.BATCH_SIZE 4 DATA.SEED 1 DATA.HOMOGRAPHY.CURRICULUM 0 \
  TARGETS.FINE_MIN_TRUE 500 MODEL.CONSENSUS.ENABLED False TRAIN.WARMUP_STEPS 12 TRAIN.FINAL_LR_RATIO 0.75 \
  TRAIN.VALIDATE_EVERY 2000 TRAIN.INIT_WEIGHTS "$OUTPUT/1-crops/last.ckpt" "$@"
# 40,000 pairs, 8 a step
phase 3-large "${STEPS[2]}" DATA.IMAGE_SIZE "[320,240]" DATA.BATCH_SIZE 4 DATA.SEED 2 DATA.CROP.SHARE 0.25 \
  DATA.HOMOGRAPHY.CURRICULUM 0 MODEL.CONSENSUS.ENABLED False TRAIN.WARMUP_STEPS 12 \
  TRAIN.INIT_WEIGHTS "$OUTPUT/2-small/last.ckpt" "$@"
# the consensus alone, on the candidates of 2,000 pairs
CONFIGS+=(configs/s2ld/outdoor/s2ld_lite_consensus.yaml)
phase 4-consensus "${STEPS[3]}" --devices 1 DATA.SEED 3 DATA.CROP.SHARE 0.2 DATA.HOMOGRAPHY.CURRICULUM 0 \
  TRAIN.CANDIDATES.PAIRS 2000 TRAIN.INIT_WEIGHTS "$OUTPUT/3-large/s2ld.safetensors" "$@"
# all of it together, 8,000 pairs, 4 a step
unset 'CONFIGS[-1]'
phase 5-joint "${STEPS[4]}" DATA.IMAGE_SIZE "[480,352]" DATA.BATCH_SIZE 2 DATA.SEED 4 DATA.CROP.SHARE 0.2 \
  DATA.HOMOGRAPHY.CURRICULUM 0 TRAIN.FREEZE_BATCHNORM True TRAIN.CANONICAL_LR 1.6e-3 TRAIN.WARMUP_STEPS 12 \
  TRAIN.INIT_WEIGHTS "$OUTPUT/4-consensus/s2ld.safetensors" "$@"
