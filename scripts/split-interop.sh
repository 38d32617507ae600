#!/usr/bin/env bash
# Models in parts, here and in llama.cpp: both divide a model into the same files, and each reads the other's.
#   usage: split-interop.sh BESA LLAMA-GGUF-SPLIT SPARSE.gguf [WORKDIR]
set -euo pipefail
besa=$(realpath "$1") tool=$(realpath "$2") sparse=$(realpath "$3") work=${4:-$(mktemp -d)}
export LD_LIBRARY_PATH=$(dirname "$tool")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
mkdir -p "$work" && cd "$work" && rm -rf ours theirs again && mkdir ours theirs again
compare() { # WHAT A B, files
  cmp "$2" "$3" && echo "$1: the same bytes"
}
first() { ls "$1"-00001-of-*.gguf; }

"$besa" pack --quiet --layout plain --force "$sparse" -o sparse.gguf >ours/log
"$besa" expand --quiet --force "$sparse" -o dense.gguf >>ours/log
"$besa" pack --quiet --layout plain --split-max-size 40M "$sparse" -o ours/sparse.gguf >>ours/log
"$besa" expand --quiet --split-max-size 60M "$sparse" -o ours/dense.gguf >>ours/log
"$tool" --split --split-max-size 40M sparse.gguf theirs/sparse >theirs/log 2>&1
"$tool" --split --split-max-size 60M dense.gguf theirs/dense >>theirs/log 2>&1
for part in ours/*.gguf; do compare "$(basename "$part") by both" "$part" theirs/"$(basename "$part")"; done

# What gguf-split joins keeps split.* keys of one part, which mean nothing: tensors and checksums are as before.
"$tool" --merge "$(first ours/sparse)" again/sparse.gguf >>theirs/log 2>&1
"$tool" --merge "$(first ours/dense)" again/dense.gguf >>theirs/log 2>&1
"$besa" verify again/sparse.gguf | tail -1
"$besa" pack --quiet --layout plain --split-max-size 40M again/sparse.gguf -o again/parts.gguf >>ours/log
for part in ours/sparse-*.gguf; do compare "$(basename "$part"), joined by gguf-split and divided again" "$part" "${part/ours\/sparse/again/parts}"; done
"$besa" pack --quiet "$(first theirs/dense)" -o again/packed.gguf >>ours/log
"$besa" expand --quiet again/packed.gguf -o again/back.gguf
compare 'dense parts by gguf-split, packed and expanded' dense.gguf again/back.gguf
"$besa" verify "$(first theirs/sparse)" | tail -1
"$besa" expand --quiet "$(first theirs/sparse)" -o again/expanded.gguf
compare 'sparse parts by gguf-split, expanded' dense.gguf again/expanded.gguf
"$besa" pack --quiet again/dense.gguf -o again/joined.gguf | tail -1
