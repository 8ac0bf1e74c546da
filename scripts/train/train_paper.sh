#!/usr/bin/env bash
# The paper configuration from nothing, on a GPU: small images first, then larger ones, real scenes of growing angle;
# docs/training_paper.md tells what it is sized for. With --max-time MINUTES it stops in time, start and end of the
# programs included; called again, it goes on from the last checkpoint. Further arguments go to train.py.
#
# The variables below size it, e.g. STEPS="1500 1000 800" for half the time; a value for each of the three phases.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# Where the data lies (docs/data.md tells what it is and where to get it)
PHOTOS="${PHOTOS:-data/photos}"                # photographs of anything
SCENES="${SCENES:-data/real_scenes}"           # multi-view scenes in MegaDepth's form
POSED_PAIRS="${POSED_PAIRS:-data/posed_pairs}" # photographs with surveyed cameras, which validate only
read -ra sizes <<<"${SIZES:-256x192 480x360 640x480}" # px
read -ra batches <<<"${BATCHES:-64 32 16}"            # pairs a step
read -ra steps <<<"${STEPS:-3200 2000 1600}"
read -ra angles <<<"${ANGLES:-30 50 75}" # largest triangulation angle of the real scenes, degrees
folder="${OUTPUT:-logs/paper}"
first="${INIT:-}"      # weight file to begin with, of an earlier run of ours; default: from nothing
margin="${MARGIN:-75}" # seconds of a chunk for start and end: programs, the last checkpoint, validation, weights
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

limit="" ran=""
if [[ "${1:-}" == --max[-_]time ]]; then
  limit=$((${2:?--max-time: give whole minutes} * 60))
  shift 2
fi

finished() { # FOLDER, STEPS: whether the exported weights are of the last step
  [[ -e "$1/s2ld.safetensors" ]] && python -c 'import sys; from safetensors import safe_open
sys.exit(int(safe_open(sys.argv[1], "numpy").metadata()["steps"]) < int(sys.argv[2]))' "$1/s2ld.safetensors" "$2"
}

begun() { # NAMES: whether one of these phases has a state to go on from
  local name
  for name in "$@"; do
    if [[ -e "$folder/$name/last.ckpt" ]]; then return 0; fi
  done
  return 1
}

again() { # FOLDER
  echo "$1: stopped before its last step; call this script again to go on"
  exit 0
}

phase() { # NUMBER from 0, NAME, INITIAL WEIGHTS or nothing, shares of the sources, then further arguments of train.py
  local number="$1" output="$folder/$2" init="$3" shares="$4" size="${sizes[$1]}"
  shift 4
  local width="${size%x*}" height="${size#*x}" time=()
  if finished "$output" "${steps[number]}"; then return; fi
  if [[ -n "$limit" ]]; then
    local left=$((limit - SECONDS - margin))
    if ((left < 0)) && [[ -n "$ran" ]]; then again "$output"; fi
    time=(--max-time "0:0:$((left > 0 ? left : 0))") # at least one step a chunk
  fi
  ran=yes
  if [[ -e "$output/last.ckpt" && ! -e "$init" ]]; then init=""; fi # a state that came from another machine
  # half of the matches that train the fine stage are true ones: 15 % of the cells
  python train.py configs/data/mixture.yaml configs/s2ld/outdoor/s2ld_paper.yaml --output "$output" --resume auto \
    ${time[@]+"${time[@]}"} DATA.IMAGE_SIZE "[$width,$height]" DATA.BATCH_SIZE "${batches[number]}" DATA.WORKERS 16 \
    DATA.PHOTOS "$PHOTOS" DATA.MEGADEPTH.ROOT "$SCENES" DATA.POSED_PAIRS.ROOT "$POSED_PAIRS" \
    DATA.SEED "$number" DATA.TRAIN_WEIGHTS "$shares" DATA.MEGADEPTH.MAX_ANGLE "${angles[number]}" \
    TARGETS.FINE_MIN_TRUE $((batches[number] * width * height / 64 * 15 / 100)) TRAIN.INIT_WEIGHTS "$init" \
    TRAIN.MAX_STEPS "${steps[number]}" TRAIN.VALIDATE_EVERY $(((steps[number] + 1) / 2)) TRAIN.CHECKPOINT_EVERY 500 "$@"
  if ! finished "$output" "${steps[number]}"; then again "$output"; fi
}

# the learning rate, 2e-3 at 64 pairs, goes on falling from phase to phase, since it follows the batch
begun 2-medium 3-large || phase 0 1-small "$first" "[0.5,0.2,0.3]" TRAIN.FINAL_LR_RATIO 0.5 "$@"
begun 3-large ||
  phase 1 2-medium "$folder/1-small/s2ld.safetensors" "[0.4,0.2,0.4]" TRAIN.WARMUP_STEPS 50 TRAIN.FINAL_LR_RATIO 0.5 "$@"
phase 2 3-large "$folder/2-medium/s2ld.safetensors" "[0.35,0.15,0.5]" TRAIN.WARMUP_STEPS 25 "$@"
