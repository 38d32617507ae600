#!/usr/bin/env bash
# Sizes of the sparse format on a real model (docs/results.md): prunes MODEL to 50 %, in joint 4 bits with groups of 64
# and 128, and unquantised, and prints bits per block weight in both layouts beside the entropy of what is stored.
#   usage: format-sizes.sh BESA MODEL.gguf CALIBRATION [WORKDIR]
# METHOD=wanda is quicker than besa. Files that WORKDIR has from an earlier run are measured as they are.
set -euo pipefail
besa=$(realpath "$1") model=$(realpath "$2") calib=$(realpath "$3") work=$(realpath -m "${4:-$(mktemp -d)}") method=${METHOD:-besa}
mkdir -p "$work"
convert() { # NAME FLAGS…
  local out="$work/$method-$1.sparse.gguf"
  shift
  [ -e "$out" ] || "$besa" convert --quiet --method "$method" --calib "$calib" --calib-samples 32 --calib-len 512 --calib-stride 11008 "$@" "$model" -o "$out" >&2
}
convert g64 --joint-q4 --group-size 64
convert g128 --joint-q4 --group-size 128
convert f16
cd "$(dirname "$0")/.."
BESA_SPARSE_MODELS=$work/$method-g64.sparse.gguf:$work/$method-g128.sparse.gguf:$work/$method-f16.sparse.gguf \
  go test -count=1 ./sparsefmt -run TestRealSizes -v | sed -n 's/^ *realsizes_test.go:[0-9]*: //p'
