#!/usr/bin/env bash
# Weights side by side on every validation set: accuracy, precision, matches and time, a table for each set.
#   scripts/test/side_by_side.sh [WEIGHTS ...] [-- options of s2ld benchmark matchers and KEY VALUE pairs]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# Where the data lies (docs/data.md tells what it is and where to get it)
PHOTOS="${PHOTOS:-data/photos}"                # photographs of anything
SCENES="${SCENES:-data/real_scenes}"           # multi-view scenes in MegaDepth's form
POSED_PAIRS="${POSED_PAIRS:-data/posed_pairs}" # photographs with surveyed cameras, which validate only

weights=()
while (($#)) && [[ "$1" != -- ]]; do
  weights+=(--weight "$1")
  shift
done
if (($#)); then shift; fi
if ((${#weights[@]} == 0)); then weights=(--weight s2ld-lite --weight s2ld-e2e); fi

table() { # TITLE, name of the caches' folder, then further arguments
  local title="$1" name="$2"
  shift 2
  printf '\n== %s\n' "$title"
  python -m s2ld benchmark matchers "$@" --output "dump/side_by_side_$name" "${weights[@]}" --others ""
}

large=(DATA.IMAGE_SIZE "[640,480]" DATA.PHOTOS "$PHOTOS")
scenes=(DATA.MEGADEPTH.TEST_ROOT "$SCENES" DATA.MEGADEPTH.TEST_INDEX "" DATA.MEGADEPTH.TEST_SCENES configs/data/real_scenes_val.txt)
table "posed pairs" facades configs/data/posed_pairs.yaml DATA.POSED_PAIRS.ROOT "$POSED_PAIRS" "$@"
table "homographies" homography configs/data/mixture.yaml --limit 100 "${large[@]}" DATA.TEST_SOURCE homography "$@"
table "rendered scenes" synthetic configs/data/mixture.yaml --limit 100 "${large[@]}" DATA.TEST_SOURCE synthetic "$@"
table "unseen real scenes" scenes configs/data/mixture.yaml --limit 100 "${scenes[@]}" DATA.TEST_SOURCE megadepth "$@"
