#!/bin/sh
# Expand the test vector with the independent reader and compare it with the
# SHA-256 in SPEC.md. Needs python3 with numpy; PYTHON names another one.
set -eu
cd "$(dirname "$0")"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
"${PYTHON:-python3}" reader.py vector.sparse.gguf "$out"
want=$(sed -n 's/^| its expansion |.*`\([0-9a-f]\{64\}\)`.*/\1/p' ../SPEC.md)
got=$(sha256sum "$out" | cut -d' ' -f1)
if [ -z "$want" ] || [ "$got" != "$want" ]; then
    echo "reader.py: the expansion of the test vector is $got, SPEC.md says $want" >&2
    exit 1
fi
echo "reader.py expands the test vector exactly"
