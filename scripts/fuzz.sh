#!/usr/bin/env bash
# Runs every native fuzz target of the module for the given time each (default 30s).
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
count=0
while IFS=: read -r file name; do
  echo "== $name in $(dirname "$file")"
  go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "./$(dirname "$file")"
  count=$((count + 1))
done < <(git grep -oE 'func Fuzz[A-Za-z0-9]+' -- '*_test.go' | sed 's/:func /:/')
[ "$count" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
