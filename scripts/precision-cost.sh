#!/usr/bin/env bash
# What bf16 products cost in perplexity: for every seed the same conversion with --precision fp32 and bf16, both measured
# by besa's own engine (in fp32) on the first LIMIT windows. Prints every pair, and the mean difference of the logarithms with its
# standard error: learning is chaotic, so single pairs differ by a per cent or two in either direction.
#   usage: precision-cost.sh BESA MODEL.gguf CALIBRATION EVALUATION
# SEEDS="0 1 2", SAMPLES=32 and LEN=512 (calibration), LIMIT=64 (windows of LEN tokens), FLAGS="--joint-q4 --refine=off", THREADS.
set -euo pipefail
besa=$1 model=$2 calib=$3 data=$4 len=${LEN:-512}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
threads=(${THREADS:+--threads "$THREADS"})

ppl() { # precision seed
  "$besa" convert --quiet --force --precision "$1" --seed "$2" --calib "$calib" --calib-samples "${SAMPLES:-32}" --calib-len "$len" \
    "${threads[@]}" ${FLAGS---joint-q4 --refine=off} "$model" -o "$work/out.gguf" >/dev/null
  "$besa" eval ppl --engine go --protocol paper --ctx "$len" --limit "${LIMIT:-64}" --data "$data" "${threads[@]}" --json --quiet "$work/out.gguf" |
    sed -n 's/^ *"perplexity": \([^,]*\),\{0,1\}$/\1/p' | head -1
}

for seed in ${SEEDS:-0 1 2}; do
  echo "$seed $(ppl fp32 "$seed") $(ppl bf16 "$seed")"
done | awk '
  { d = log($3 / $2); printf "seed %s: fp32 %.4f, bf16 %.4f, %+.2f %%\n", $1, $2, $3, 100 * (exp(d) - 1); n++; sum += d; squares += d * d; fflush() }
  END {
    mean = sum / n
    error = n > 1 ? sqrt((squares / n - mean * mean) / (n - 1)) : 0
    printf "%d seeds: bf16 %+.3f %% ± %.3f\n", n, 100 * (exp(mean) - 1), 100 * error
  }'
