#!/usr/bin/env bash
# What refinement is worth, one candidate a row: SmolLM2 at 50 %, 32 windows of 512 tokens of C4 (one every 11008 tokens);
# perplexity in the Go engine on the first 64 windows of 512 tokens of WikiText-2 validation and the first 24 of C4 validation.
#   usage: refine-screen.sh BESA MODEL.gguf CALIBRATION EVALUATION EVALUATION2 [WORKDIR]
# ROWS="pcg q4-solve" chooses rows by name; BLOCKS=8 prunes only the first eight of the model's thirty blocks (the others
# are converted with nothing pruned, and with a grid rounded), in a quarter of the time. Rows that are in WORKDIR stay.
set -euo pipefail
besa=$1 model=$2 calib=$3 wiki=$4 c4=$5 work=${6:-$(mktemp -d)}
mkdir -p "$work"
field() { sed -n "s/^ *\"$1\": \([^,]*\),\{0,1\}$/\1/p" | head -1; }

declare -A flags=(
  [off]="--refine=off"
  [default]=""
  [official]="--refine --refine-loss official"
  [tune]="--refine=tune --refine-along=false --refine-passes 4"
  [tune-official]="--refine=tune --refine-along=false --refine-passes 4 --refine-loss official"
  [tune-2e-4]="--refine=tune --refine-along=false --refine-passes 4 --refine-lr 2e-4"
  [tune-5e-4]="--refine=tune --refine-along=false --refine-passes 4 --refine-lr 5e-4"
  [pruned-path]="--refine --refine-reference pruned-path"
  [passes-1]="--refine --refine-passes 1"
  [passes-0]="--refine --refine-passes 0"
  [lr-5e-4]="--refine --refine-lr 5e-4"
  [lr-2e-3]="--refine --refine-lr 2e-3"
  [pcg]="--refine=pcg"
  [solve]="--refine=solve"
  [pcg+tune]="--refine=pcg+tune --refine-along=false"
  [solve+tune]="--refine=solve+tune --refine-along=false"
  [along+solve+tune]="--refine=solve+tune"
  [remask]="--refine --refine-remask"
  [norms]="--refine --refine-norms"
  [remask-6]="--refine --refine-remask --refine-passes 6"
  [epochs-3]="--refine --epochs 3"
)
order="off tune-2e-4 tune-5e-4 tune tune-official official passes-0 passes-1 default lr-5e-4 lr-2e-3 pruned-path pcg solve pcg+tune solve+tune along+solve+tune norms remask remask-6 epochs-3"
all=$order
for row in $order; do all+=" q4-$row"; done

some=()
if [ -n "${BLOCKS:-}" ]; then
  for ((b = BLOCKS; b < 30; b++)); do some+=(--target-sparsity "blk.$b.*=0"); done
fi
ppl() { # text windows file
  "$besa" eval ppl --engine go --protocol paper --ctx 512 --limit "$2" --data "$1" --json --quiet "$3" | field perplexity
}
echo '| candidate | flags | WikiText-2 | C4 | bits per block weight | seconds |'
echo '| --- | --- | ---: | ---: | ---: | ---: |'
for row in ${ROWS:-$all}; do
  name=${row#q4-} done="$work/$row.row" out="$work/$row.sparse.gguf"
  [ -v "flags[$name]" ] || { echo "no row $row; have $all" >&2; exit 2; }
  read -ra own <<<"${flags[$name]}"
  [ "$name" = "$row" ] || own=(--joint-q4 --group-size 64 "${own[@]}")
  if [ ! -s "$done" ]; then
    report=$("$besa" convert --quiet --json --force --calib "$calib" --calib-samples 32 --calib-len 512 --calib-stride 11008 \
      "${own[@]}" "${some[@]}" "$model" -o "$out")
    printf '| %s | %s | %.2f | %.2f | %.2f | %.0f |\n' "$row" "${own[*]:+\`${own[*]}\`}" "$(ppl "$wiki" 64 "$out")" "$(ppl "$c4" 24 "$out")" \
      "$(field bits_per_weight <<<"$report")" "$(field seconds <<<"$report")" >"$done.part"
    mv "$done.part" "$done"
    rm "$out"
  fi
  cat "$done"
done
