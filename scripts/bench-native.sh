#!/usr/bin/env bash
# Native execution against stock llama.cpp, end to end: llama-bench with and
# without the plugin in turn (A B A B …), so that both see the same machine.
#
#   scripts/bench-native.sh [--model 1b|1b-32:64|smol|FILE.gguf] [--threads 1,2] [--what tg,pp]
#                           [--runs 10] [--against Q4_0,Q3_K_S,IQ3_XXS] [--plugin FILE.so]
#                           [--control yes] [--openmp yes]
#
# --model 1b is written on the first run: 1.1 billion random weights in LLaMA's
# shape, 50 % pruned in every row (1b-32:64: 32 of each 64). smol is SmolLM2-135M,
# pruned by besa convert --joint-q4 and expanded; CALIB=FILE names the
# calibration text, else the model writes its own. --against names the
# quantisations of the same weights that stock runs: same is the file itself, and
# Q4_0 too, of the models named here; others come from llama-quantize. tg: generation, 32 tokens from an empty
# context; pp: prefill, one batch of 512. Prints a line per case: medians in
# tokens per second, and the ratio of the medians. One case at a time keeps runs
# short: --what tg --threads 2 --against Q4_0.
#
# --control yes runs, in the same turns, two more cases that tell sparsity from
# the rest: stock with its memory on large pages (glibc's malloc), and the plugin
# with every tensor on its dense path. --openmp yes takes llama.cpp's CPU backend
# built with OpenMP.
#
# Needs scripts/fetch-assets.sh --tools and make native. Models are kept in
# $BESA_BENCH_DIR, else besa/bench in the user's cache.
set -euo pipefail
cd "$(dirname "$0")/.."

model=1b threads=1,2 what=tg,pp runs=10 against=Q4_0,Q3_K_S,IQ3_XXS plugin=bin/libggml-besa.so control=no openmp=no
while (($#)); do
  case $1 in
    --model) model=$2 ;;
    --threads) threads=$2 ;;
    --what) what=$2 ;;
    --runs) runs=$2 ;;
    --against) against=$2 ;;
    --plugin) plugin=$2 ;;
    --control) control=$2 ;;
    --openmp) openmp=$2 ;;
    *) sed -n '2,28s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
  esac
  shift 2
done

cache=${BESA_BENCH_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/besa/bench}
tools=$(scripts/fetch-assets.sh --print-dir)/tools
[[ -x $tools/llama-bench ]] || { echo "llama-bench is missing: run scripts/fetch-assets.sh --tools" >&2; exit 3; }
[[ -f $plugin ]] || { echo "$plugin is missing: run make native" >&2; exit 3; }
plugin=$(realpath "$plugin")
[[ $openmp == yes ]] && export LD_LIBRARY_PATH="$tools/openmp"
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

# make_smol FILE: prunes and expands the real model.
make_smol() {
  [[ -f $1 ]] && return
  CGO_ENABLED=0 go run ./cmd/besa convert --joint-q4 --group-size 64 ${CALIB:+--calib "$CALIB"} --calib-samples 32 --calib-len 512 --force \
    "$(scripts/fetch-assets.sh --print-dir)/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" -o "${1%.gguf}.sparse.gguf" >&2
  CGO_ENABLED=0 go run ./cmd/besa expand "${1%.gguf}.sparse.gguf" -o "$1" >&2
}

case $model in
  1b) file=$cache/1b-S50-Q4_0.gguf && make_model "$file" ;;
  1b-32:64) file=$cache/1b-S50-32of64-Q4_0.gguf && make_model "$file" --window 64 ;;
  smol) file=$cache/smol-S50-Q4_0.gguf && make_smol "$file" ;;
  *) file=$model && [[ -f $file ]] || { echo "no such model: $file" >&2; exit 2; } ;;
esac

# quantised TYPE: prints the stock file of that type. Weights are taken as they are;
# the low-bit i-quants want an importance matrix, which for the random model is all ones: speed does not depend on it.
quantised() {
  local out=${file%.gguf}.$1.gguf
  [[ $1 == same || $1 == Q4_0 && $model != *.gguf ]] && echo "$file" && return
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

# case_speed NAME FILE THREADS WHAT: speed of one of the cases.
case_speed() {
  case $1 in
    stock) env -u GGML_BACKEND_PATH "$BASH" -c "$(declare -f speed); tools='$tools'; speed '$2' $3 $4" ;;
    pages) GLIBC_TUNABLES=glibc.malloc.hugetlb=1 env -u GGML_BACKEND_PATH "$BASH" -c "$(declare -f speed); tools='$tools'; speed '$2' $3 $4" ;;
    dense) BESA_NATIVE_SPARSITY=1 GGML_BACKEND_PATH=$plugin speed "$file" "$3" "$4" ;;
    besa) GGML_BACKEND_PATH=$plugin speed "$file" "$3" "$4" ;;
  esac
}

cases=(stock besa)
[[ $control == yes ]] && cases=(stock pages dense besa)
echo "| test | threads | stock file | MiB | $(printf '%s, tokens/s | ' "${cases[@]}")ratio | runs |"
echo "| --- | ---: | --- | ---: | $(printf -- '---: | %.0s' "${cases[@]}")---: | ---: |"
for type in ${against//,/ }; do
  stock=$(quantised "$type")
  mib=$(($(stat -c %s "$stock") >> 20))
  for w in ${what//,/ }; do
    for t in ${threads//,/ }; do
      declare -A seen=()
      for ((i = 0; i < runs; i++)); do
        for c in "${cases[@]}"; do seen[$c]+="$(case_speed "$c" "$stock" "$t" "$w")"$'\n'; done
      done
      row=
      for c in "${cases[@]}"; do row+=" $(printf %s "${seen[$c]}" | median | xargs printf '%.1f') |"; done
      ratio=$(awk -v a="$(printf %s "${seen[stock]}" | median)" -v b="$(printf %s "${seen[besa]}" | median)" 'BEGIN {printf "%.2f", b / a}')
      echo "| $w | $t | $type | $mib |$row $ratio | $runs |"
    done
  done
done
