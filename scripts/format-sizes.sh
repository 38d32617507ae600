#!/usr/bin/env bash
# Sizes of the sparse format on a real model (docs/results.md): prunes MODEL to 50 %, in joint 4 bits with groups of 64
# and 128, and unquantised, and prints bits per block weight in both layouts beside the entropy of what is stored.
#   usage: format-sizes.sh BESA MODEL.gguf CALIBRATION [WORKDIR]      METHOD=wanda is quicker than besa
set -euo pipefail
besa=$(realpath "$1") model=$2 calib=$3 work=${4:-$(mktemp -d)}
flags=(--quiet --force --method "${METHOD:-besa}" --calib "$calib" --calib-samples 32 --calib-len 512 --calib-stride 11008)
"$besa" convert "${flags[@]}" --joint-q4 --group-size 64 "$model" -o "$work/g64.sparse.gguf" >&2
"$besa" convert "${flags[@]}" --joint-q4 --group-size 128 "$model" -o "$work/g128.sparse.gguf" >&2
"$besa" convert "${flags[@]}" "$model" -o "$work/f16.sparse.gguf" >&2
cd "$(dirname "$0")/.."
BESA_SPARSE_MODELS=$work/g64.sparse.gguf:$work/g128.sparse.gguf:$work/f16.sparse.gguf \
  go test -count=1 ./sparsefmt -run TestRealSizes -v | sed -n 's/^ *realsizes_test.go:[0-9]*: //p'
