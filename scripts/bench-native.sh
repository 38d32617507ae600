#!/usr/bin/env bash
# Native execution against stock llama.cpp, end to end: llama-bench with and
# without the plugin in turn (A B A B …), so that both see the same machine.
#
#   scripts/bench-native.sh [--model 1b|1b-32:64|FILE.gguf] [--threads 1,2] [--what tg,pp]
#                           [--runs 10] [--against Q4_0,Q3_K_S,IQ3_XXS] [--plugin FILE.so]
#
# --model 1b is written on the first run: 1.1 billion random weights in LLaMA's
# shape, 50 % pruned in every row (1b-32:64: 32 of each 64). --against names the
# quantisations of the same weights that stock runs: Q4_0 is the file itself,
# the others come from llama-quantize. tg: generation, 32 tokens from an empty
# context; pp: prefill, one batch of 512. Prints a line per case: medians in
# tokens per second, and the ratio of the medians. One case at a time keeps runs
# short: --what tg --threads 2 --against Q4_0.
#
# Needs scripts/fetch-assets.sh --tools and make native. Models are kept in
# $BESA_BENCH_DIR, else besa/bench in the user's cache.
set -euo pipefail
cd "$(dirname "$0")/.."

model=1b threads=1,2 what=tg,pp runs=10 against=Q4_0,Q3_K_S,IQ3_XXS plugin=bin/libggml-besa.so
while (($#)); do
  case $1 in
    --model) model=$2 ;;
    --threads) threads=$2 ;;
    --what) what=$2 ;;
    --runs) runs=$2 ;;
    --against) against=$2 ;;
    --plugin) plugin=$2 ;;
    *) sed -n '2,20s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
  esac
  shift 2
done

cache=${BESA_BENCH_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/besa/bench}
tools=$(scripts/fetch-assets.sh --print-dir)/tools
[[ -x $tools/llama-bench ]] || { echo "llama-bench is missing: run scripts/fetch-assets.sh --tools" >&2; exit 3; }
[[ -f $plugin ]] || { echo "$plugin is missing: run make native" >&2; exit 3; }
plugin=$(realpath "$plugin")
# A plugin that declined would be measured as stock; with BESA_NATIVE_CPU=none that is what is wanted.
[[ ${BESA_NATIVE_CPU:-} == none ]] || GGML_BACKEND_PATH=$plugin "$tools/llama-bench" --list-devices 2>&1 | grep "loaded BESA backend" >/dev/null ||
  { echo "llama-bench did not take $plugin: nothing to measure" >&2; exit 3; }
mkdir -p "$cache"

# make_model FILE FLAG...: writes it once, complete or not at all.
make_model() {
  [[ -f $1 ]] && return
  echo "writing $1" >&2
  CGO_ENABLED=0 go run ./scripts/bench-model "${@:2}" "$1.part"
  mv "$1.part" "$1"
}

case $model in
  1b) file=$cache/1b-S50-Q4_0.gguf && make_model "$file" ;;
  1b-32:64) file=$cache/1b-S50-32of64-Q4_0.gguf && make_model "$file" --window 64 ;;
  *) file=$model && [[ -f $file ]] || { echo "no such model: $file" >&2; exit 2; } ;;
esac

# quantised TYPE: prints the stock file of that type. Weights are taken as they are;
# the low-bit i-quants want an importance matrix, which for the random model is all ones: speed does not depend on it.
quantised() {
  local out=${file%.gguf}.$1.gguf
  [[ $1 == Q4_0 ]] && echo "$file" && return
  if [[ ! -f $out ]]; then
    echo "quantising $out" >&2
    local imatrix=()
    if [[ $1 == IQ* && $model == 1b* ]]; then
      [[ -f $cache/1b.imatrix.gguf ]] || CGO_ENABLED=0 go run ./scripts/bench-model --imatrix "$cache/1b.imatrix.gguf"
      imatrix=(--imatrix "$cache/1b.imatrix.gguf")
    fi
    "$tools/llama-quantize" --allow-requantize "${imatrix[@]}" "$file" "$out.part" "$1" "$(nproc)" >"$out.log" 2>&1 ||
      { tail -n 3 "$out.log" >&2; exit 1; }
    mv "$out.part" "$out" && rm "$out.log"
  fi
  echo "$out"
}

# speed FILE THREADS WHAT: tokens per second of one run.
speed() {
  local n=(-p 0 -n 32)
  [[ $3 == pp ]] && n=(-p 512 -n 0)
  "$tools/llama-bench" -m "$1" -t "$2" "${n[@]}" -r 1 -o jsonl 2>/dev/null | sed -n 's/.*"avg_ts": *\([0-9.]*\).*/\1/p'
}

median() { sort -g | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }

echo "| test | threads | stock file | MiB | stock, tokens/s | besa, tokens/s | ratio | runs |"
echo "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"
for type in ${against//,/ }; do
  stock=$(quantised "$type")
  mib=$(($(stat -c %s "$stock") >> 20))
  for w in ${what//,/ }; do
    for t in ${threads//,/ }; do
      a=() b=()
      for ((i = 0; i < runs; i++)); do
        a+=("$(env -u GGML_BACKEND_PATH "$BASH" -c "$(declare -f speed); tools='$tools'; speed '$stock' $t $w")")
        b+=("$(GGML_BACKEND_PATH=$plugin speed "$file" "$t" "$w")")
      done
      ma=$(printf '%s\n' "${a[@]}" | median) mb=$(printf '%s\n' "${b[@]}" | median)
      awk -v a="$ma" -v b="$mb" -v w="$w" -v t="$t" -v q="$type" -v m="$mib" -v n="$runs" \
        'BEGIN {printf "| %s | %d | %s | %d | %.1f | %.1f | %.2f | %d |\n", w, t, q, m, a, b, b / a, n}'
    done
  done
done
