#!/usr/bin/env bash
# Runs every native fuzz target of the module for the given time each (default 30s).
#
# Go before 1.27 sometimes ends a target whose time is up with "context deadline
# exceeded" and exit status 1, though nothing was found (golang/go#75804). That
# ending, and no other, counts as success: a finding always says more.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# only_deadline NAME: the log's failure is the deadline and nothing else.
only_deadline() {
  ! grep -qE 'Failing input|panic:|fuzzing process|hung or terminated|_test\.go:[0-9]+:' "$log" &&
    [ "$(sed -n '/^--- FAIL/,$p' "$log" | sed -E 's/[ \t]+/ /g; s/ \([0-9.]+s\)$//; /^(exit status 1|FAIL .*)$/d')" = \
      "--- FAIL: $1"$'\n context deadline exceeded\nFAIL' ]
}

count=0
while IFS=: read -r file name; do
  echo "== $name in $(dirname "$file")"
  if ! go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "./$(dirname "$file")" 2>&1 | tee "$log"; then
    only_deadline "$name" || exit 1
    echo "nothing found: the deadline above is the end of $time (golang/go#75804)"
  fi
  count=$((count + 1))
done < <(git grep -oE 'func Fuzz[A-Za-z0-9]+' -- '*_test.go' | sed 's/:func /:/')
[ "$count" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
