#!/usr/bin/env bash
# How fast a whole conversion is, in fp32 and in bf16, as a share of the fp32 peak measured in the same run: 10·P·T operations
# over the time spent on blocks, for a model cut to its first blocks (a conversion's time is proportional to their number).
#   usage: convert-speed.sh BESA MODEL.gguf CALIBRATION
# BLOCKS=2, SAMPLES=128, LEN=2048 are the defaults; FLAGS="--joint-q4".
set -euo pipefail
besa=$1 model=$2 calib=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go run "$(realpath "$(dirname "$0")")/cut-model" "$model" "${BLOCKS:-2}" "$work/model.gguf"
field() { sed -n "s/^ *\"$1\": \([^,]*\),\{0,1\}$/\1/p" "$work/report" | head -1; }

echo '| precision | in blocks | whole | 10·P·T | of the fp32 peak | estimated by --dry-run |'
echo '| --- | ---: | ---: | ---: | ---: | ---: |'
for precision in fp32 bf16; do
  run=("$besa" convert --json --quiet --force --refine=off --precision "$precision" --calib "$calib" --calib-samples "${SAMPLES:-128}" --calib-len "${LEN:-2048}"
    ${FLAGS-} "$work/model.gguf" -o "$work/out.gguf")
  "${run[@]}" --dry-run >"$work/report"
  estimate=$(field estimated_seconds)
  "${run[@]}" >"$work/report"
  printf '| %s | %.1f s | %.1f s | %.0f GFLOP/s | %.1f %% | %.1f s |\n' "$precision" "$(field prune_seconds)" "$(field seconds)" "$(field gflops)" \
    "$(field percent_of_peak)" "$estimate"
done
