#!/usr/bin/env bash
# Memory and speed of besa serve on one model, with the native plugin and
# without: resident memory beside weights and KV cache, tokens per second of one
# request and of four at once.
#
#   scripts/bench-serve.sh BESA MODEL [TOKENS] [THREADS] [CONTEXT]
#
# In: the besa binary, with the plugin installed (besa native install), and a
# sparse GGUF. Out: a table. Needs curl.
set -euo pipefail
besa=$1 model=$2 tokens=${3:-64} threads=${4:-2} context=${5:-8192}
dir=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT

# ask N: one request for N tokens; the prompt is not cached from another.
ask() {
  curl -fsS "$url/v1/completions" -H 'Content-Type: application/json' \
    -d "{\"prompt\": \"$RANDOM$RANDOM\", \"max_tokens\": $1, \"temperature\": 0, \"ignore_eos\": true}" >/dev/null
}

# parallel REQUESTS: tokens per second of that many at once.
parallel() {
  local began asked=()
  began=$(date +%s%N)
  for _ in $(seq "$1"); do ask "$tokens" & asked+=($!); done
  wait "${asked[@]}"
  awk -v n=$(($1 * tokens)) -v ns=$(($(date +%s%N) - began)) 'BEGIN { printf "%.1f", n / ns * 1e9 }'
}

file=$(stat -Lc %s "$model")
printf '%-7s %12s %12s %12s %10s %12s %12s\n' native 'file MiB' 'KV MiB' 'PSS MiB' 'over both' '1 request/s' '4 requests/s'
for native in on off; do
  "$besa" serve "$model" --port 0 --native "$native" --parallel 4 -t "$threads" -c "$context" --verbose 2>"$dir/log" &
  server=$!
  until url=$(grep -o 'http://[0-9.:]*' "$dir/log"); do
    kill -0 "$server" 2>/dev/null || { tail -3 "$dir/log" >&2; exit 3; }
    sleep 0.1
  done
  ask 8
  kv=$(grep -o 'KV buffer size = *[0-9.]*' "$dir/log" | grep -o '[0-9.]*$' | tail -1)
  one=$(parallel 1)
  four=$(parallel 4)
  pss=$(awk '/^Pss:/ { print $2 }' "/proc/$server/smaps_rollup")
  awk -v n="$native" -v f="$file" -v kv="$kv" -v p="$pss" -v a="$one" -v b="$four" 'BEGIN {
    f /= 1048576; p /= 1024
    printf "%-7s %12.1f %12.1f %12.1f %+9.1f%% %12s %12s\n", n, f, kv, p, (p / (f + kv) - 1) * 100, a, b }'
  kill "$server"
  wait "$server" || true
  server=
done
