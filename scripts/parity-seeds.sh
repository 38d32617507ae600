#!/usr/bin/env bash
# Parity with the PyTorch reference over seeds: SmolLM2 at 50 %, 32 windows of 512 tokens of C4 at random places, no
# refinement, fp32; perplexity (Go engine) on the first 16 windows of 512 tokens of WikiText-2 validation.
#   usage: parity-seeds.sh BESA MODEL.gguf CALIBRATION EVALUATION [WORKDIR]
# METHODS="wanda sparsegpt besa" and SEEDS="0 1 2" choose the runs.
set -euo pipefail
besa=$1 model=$2 calib=$3 data=$4 work=${5:-$(mktemp -d)}
mkdir -p "$work"
field() { sed -n "s/^ *\"$1\": \([^,]*\),\{0,1\}$/\1/p" | head -1; }

echo '| method | seed | perplexity | seconds |'
echo '| --- | ---: | ---: | ---: |'
for method in ${METHODS:-wanda sparsegpt besa}; do
  for seed in ${SEEDS:-0 1 2}; do
    out="$work/$method-$seed.sparse.gguf"
    seconds=$("$besa" convert --quiet --json --force --precision fp32 --method "$method" --refine=off --seed "$seed" \
      --calib "$calib" --calib-samples 32 --calib-len 512 "$model" -o "$out" | field seconds)
    printf '| %s | %s | %.2f | %.0f |\n' "$method" "$seed" \
      "$("$besa" eval ppl --engine go --protocol paper --ctx 512 --limit 16 --data "$data" --json --quiet "$out" | field perplexity)" "$seconds"
  done
done
