#!/usr/bin/env bash
# How much memory a conversion of LLaMA-7B's shape takes at 128 windows of 2048 tokens: a synthetic model of two blocks,
# --memory 6GiB, activations in a spill file (8 GiB in the work folder). Samples the process's anonymous resident memory,
# from outside, until the conversion ends or LIMIT seconds are over, and prints its peak and how far the conversion got.
#   usage: memory-7b.sh BESA [WORKDIR]
# LIMIT=3600 (seconds), SAMPLES=128, MEMORY=6GiB, FLAGS="--joint-q4" are the defaults. Run to its end (2 blocks) it takes about 20 minutes
# on two free cores, and the report's own peak_anonymous_bytes is printed, too.
set -euo pipefail
besa=$1 work=${2:-$(mktemp -d)}
mkdir -p "$work"
[ -e "$work/model.gguf" ] || go run "$(realpath "$(dirname "$0")")/synthetic-model" -dir "$work"
[ -e "$work/long.txt" ] || for _ in 1 2 3 4 5; do cat "$work/calibration.txt"; done >"$work/long.txt"

"$besa" convert --json --refine=off --memory "${MEMORY:-6GiB}" --resume=false --force --calib "$work/long.txt" --calib-samples "${SAMPLES:-128}" --calib-len 2048 \
  ${FLAGS---joint-q4} "$work/model.gguf" -o "$work/out.sparse.gguf" >"$work/report.json" 2>"$work/progress" &
pid=$!
trap 'kill $pid 2>/dev/null || true' EXIT
peak=0
for ((start = SECONDS; SECONDS - start < ${LIMIT:-3600}; )); do
  now=$(awk '/^RssAnon:/ { print $2 }' "/proc/$pid/status" 2>/dev/null) || true
  [ -n "$now" ] || break
  peak=$((now > peak ? now : peak))
  sleep 0.2
done
echo "peak of anonymous memory: $((peak / 1024)) MiB in $((SECONDS - start)) s"
tail -1 "$work/progress"
grep -E '"(peak_anonymous_bytes|peak_rss_bytes|spill_bytes|percent_of_peak|gflops|precision)"' "$work/report.json" || true
[ "$peak" -le $((6 << 20)) ]
