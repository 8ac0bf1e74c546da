#!/usr/bin/env bash
# Does the paper configuration learn? Four pairs of the mixture at 128x96 px, again and again, until it matches them;
# about half an hour of one CPU core. It goes on where it was stopped. Further arguments go to train.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# Where the data lies (docs/data.md tells what it is and where to get it)
PHOTOS="${PHOTOS:-data/photos}"                # photographs of anything
SCENES="${SCENES:-data/real_scenes}"           # multi-view scenes in MegaDepth's form
POSED_PAIRS="${POSED_PAIRS:-data/posed_pairs}" # photographs with surveyed cameras, which validate only
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

python train.py configs/data/mixture.yaml configs/s2ld/outdoor/s2ld_paper.yaml --output logs/overfit --resume auto \
  DATA.PHOTOS "$PHOTOS" DATA.MEGADEPTH.ROOT "$SCENES" DATA.POSED_PAIRS.ROOT "$POSED_PAIRS" \
  DATA.OVERFIT_PAIRS 4 DATA.BATCH_SIZE 4 DATA.WORKERS 0 DATA.IMAGE_SIZE "[128,96]" MODEL.MATCH.BORDER 0 \
  TRAIN.CANONICAL_BATCH 16 TRAIN.WARMUP_STEPS 5 TRAIN.MAX_STEPS 240 TRAIN.EMA_DECAY 0.95 \
  TRAIN.VALIDATE_EVERY 20 TRAIN.CHECKPOINT_EVERY 60 TRAIN.LOG_EVERY 5 "$@"
