#!/usr/bin/env bash
# How close the native plugin's results are to stock llama.cpp's: KL divergence
# and perplexity on windows of 512 tokens, each against stock with repacked
# weights, paired by token.
#
#   scripts/native-closeness.sh MODEL.gguf TEXT [WINDOWS] [PLUGIN.so]
#
# Rows: stock without repacking, the yardstick; stock in micro-batches of 4, which
# other operations than products compute in another way, too; the plugin's prefill;
# the plugin's generation, whose kernels take up to 4 tokens (micro-batches of 4).
# Needs scripts/fetch-assets.sh --tools and make native. Stock's logits take
# 25 MB per window while it runs.
set -euo pipefail
cd "$(dirname "$0")/.."

(($# >= 2)) || { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 text=$2 windows=${3:-80} plugin=$(realpath "${4:-bin/libggml-besa.so}")
tools=$(scripts/fetch-assets.sh --print-dir)/tools
[[ -x $tools/llama-perplexity ]] || { echo "llama-perplexity is missing: run scripts/fetch-assets.sh --tools" >&2; exit 3; }
[[ -f $plugin ]] || { echo "$plugin is missing: run make native" >&2; exit 3; }
GGML_BACKEND_PATH=$plugin "$tools/llama-bench" --list-devices 2>&1 | grep "loaded BESA backend" >/dev/null ||
  { echo "llama-bench did not take $plugin: nothing to measure" >&2; exit 3; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# evaluate PLUGIN FLAG…: one run; an empty PLUGIN is stock.
evaluate() {
  GGML_BACKEND_PATH=$1 "$tools/llama-perplexity" -m "$model" -f "$text" -c 512 -b 512 --threads 1 --chunks "$windows" \
    --override-tensor nothing=CPU --kl-divergence-base "$work/logits" "${@:2}" >"$work/log" 2>&1 || { tail -n 3 "$work/log" >&2; exit 1; }
}

# row NAME PLUGIN FLAG…
row() {
  evaluate "$2" --kl-divergence "${@:3}"
  awk -v name="$1" -v stock="$stock" '/^ *[0-9]+ .*±/ {kl = $8 " ± " $10; ppl = $2; se = $7 ~ /nan/ ? 0 : $7}
    END {printf "| %s | %s | %+.3f %% ± %.3f %% |\n", name, kl, 100 * log(ppl / stock), 100 * se}' "$work/log"
}

evaluate ""
# The perplexity it printed: that of the saved logits, which are 16-bit, is a little off.
stock=$(grep -o "\[$windows\][0-9.]*" "$work/log" | sed 's/.*\]//')
echo "| $windows windows | KL divergence | perplexity against stock |"
echo "| --- | ---: | ---: |"
row "stock, --no-repack" "" --no-repack
row "stock, 4 tokens at a time" "" -ub 4
row "plugin, prefill" "$plugin"
row "plugin, 4 tokens at a time" "$plugin" -ub 4
