#!/usr/bin/env bash
# Reproduces the SmolLM2 table of docs/results.md: 32 windows of 512 tokens of C4 for calibration (one every
# 11008 tokens), 50 % sparsity, perplexity on the first 64 windows of 512 tokens of WikiText-2 validation, through
# llama.cpp and through the Go engine.
#   usage: protocol-d.sh BESA MODEL.gguf CALIBRATION EVALUATION [WORKDIR]
# SEEDS="0 1 2" adds runs with randomly placed windows; THREADS limits the threads.
set -euo pipefail
besa=$1 model=$2 calib=$3 data=$4 work=${5:-$(mktemp -d)}
mkdir -p "$work"
threads=(${THREADS:+--threads "$THREADS"})
field() { sed -n "s/^ *\"$1\": \([^,]*\),\{0,1\}$/\1/p" | head -1; }

ppl() { # engine file
  "$besa" eval ppl --engine "$1" --protocol paper --ctx 512 --limit 64 --data "$data" "${threads[@]}" --json --quiet "$2" | field perplexity
}
row() { # name file seconds bits sparsity
  printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$1" "$(ppl llama "$2")" "$(ppl go "$2")" "$5" "$4" "$(stat -c %s "$2")" "$3"
}
run() { # name flags…
  local name=$1 out="$work/${1// /_}.sparse.gguf" report
  shift
  report=$("$besa" convert --quiet --json --force --precision fp32 --calib "$calib" --calib-samples 32 --calib-len 512 "${threads[@]}" "$@" "$model" -o "$out")
  printf "%s" "$report" >"${out%.sparse.gguf}.json"
  row "$name" "$out" "$(field seconds <<<"$report")" "$(field bits_per_weight <<<"$report")" "$(field sparsity <<<"$report")"
}

echo '| run | perplexity (llama.cpp) | perplexity (Go engine) | sparsity | bits per block weight | file bytes | seconds |'
echo '| --- | --- | --- | --- | --- | --- | --- |'
row dense "$model" - - -
run magnitude --calib-stride 11008 --method magnitude
run wanda --calib-stride 11008 --method wanda
run sparsegpt --calib-stride 11008 --method sparsegpt
run besa --calib-stride 11008 --refine=off
run 'besa refined' --calib-stride 11008
run 'joint wanda' --calib-stride 11008 --method wanda --joint-q4
run 'joint sparsegpt' --calib-stride 11008 --method sparsegpt --joint-q4
run 'joint besa' --calib-stride 11008 --joint-q4 --refine=off
run 'joint besa refined' --calib-stride 11008 --joint-q4
run 'joint besa asymmetric' --calib-stride 11008 --joint-q4 --refine=off --grid asymmetric
for seed in ${SEEDS:-}; do
  run "wanda seed $seed" --seed "$seed" --method wanda
  run "sparsegpt seed $seed" --seed "$seed" --method sparsegpt
  run "besa seed $seed" --refine=off --seed "$seed"
  run "joint besa seed $seed" --refine=off --seed "$seed" --joint-q4
done
echo "files: $work" >&2
