#!/usr/bin/env bash
# Memory and speed of besa serve on one model, with the native plugin and
# without: resident memory beside weights and KV cache, tokens per second of one
# request and of four at once. Then the memory of besa run, in a conversation:
# after an answer to a short message, and after one to a long message.
# CONTEXT 0 is each command's default.
#
#   scripts/bench-serve.sh BESA MODEL [TOKENS] [THREADS] [CONTEXT]
#
# Resident is what smaps says, of the system's libraries this process's share
# (PSS); besa, llama.cpp and the model count in full, whoever else uses them.
# besa is read from disk, as after installing it: a file that was just written
# is cached in large pages, of which recent kernels map 2 MB at a touch.
#
# In: the besa binary, with the plugin installed (besa native install), and a
# sparse GGUF. Out: a table. Needs curl, and dd of GNU coreutils.
set -euo pipefail
besa=$1 model=$2 tokens=${3:-64} threads=${4:-2} context=${5:-0}
dir=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT

# cold FILE: forgets what is cached of it.
cold() {
  sync "$1"
  dd if="$1" iflag=nocache count=0 status=none
}

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

# resident PID: KiB.
resident() {
  awk '/^[0-9a-f]+-/ { want = $6 ~ "^/(usr/)?lib" ? "Pss:" : "Rss:" } $1 == want { kib += $2 } END { print kib }' "/proc/$1/smaps"
}

# cache: MiB of keys and values, from the log.
cache() { grep -o 'KV buffer size = *[0-9.]*' "$dir/log" | grep -o '[0-9.]*$' | tail -1; }

# row COMMAND NATIVE KIB [ONE FOUR]
row() {
  awk -v c="$1" -v n="$2" -v f="$(stat -Lc %s "$model")" -v kv="$(cache)" -v p="$3" -v a="${4:--}" -v b="${5:--}" 'BEGIN {
    f /= 1048576; p /= 1024
    printf "%-9s %-7s %9.1f %9.1f %12.1f %+9.1f%% %12s %12s\n", c, n, f, kv, p, (p / (f + kv) - 1) * 100, a, b }'
}

# until_log PATTERN [N]: waits for a line of the log, the N-th of its kind.
until_log() {
  until [ "$(grep -cs "$1" "$dir/log")" -ge "${2:-1}" ]; do
    kill -0 "$server" 2>/dev/null || { tail -3 "$dir/log" >&2; exit 3; }
    sleep 0.1
  done
}

mkfifo "$dir/messages"
printf '%-9s %-7s %9s %9s %12s %10s %12s %12s\n' command native 'file MiB' 'KV MiB' 'resident MiB' 'over both' '1 request/s' '4 requests/s'
for native in on off; do
  cold "$besa"
  "$besa" serve "$model" --port 0 --native "$native" --parallel 4 -t "$threads" -c "$context" --verbose 2>"$dir/log" &
  server=$!
  until_log 'http://[0-9]'
  url=$(grep -o 'http://[0-9.:]*' "$dir/log")
  ask 8
  one=$(parallel 1)
  four=$(parallel 4)
  row serve "$native" "$(resident "$server")" "$one" "$four"
  kill "$server"
  wait "$server" || true
  cold "$besa"
  "$besa" run "$model" --native "$native" --conversation --chat-template chatml --ignore-eos -n "$tokens" -t "$threads" -c "$context" --verbose \
    <"$dir/messages" >"$dir/answer" 2>"$dir/log" &
  server=$!
  exec 3>"$dir/messages"
  echo 'What is a sparse matrix?' >&3
  until_log '; seed [0-9]'
  row run "$native" "$(resident "$server")"
  printf '1234567890%.0s' {1..40} >&3 # a token each in most vocabularies
  echo >&3
  until_log '; seed [0-9]' 2
  row 'run long' "$native" "$(resident "$server")"
  exec 3>&-
  wait "$server" || true
  server=
done
