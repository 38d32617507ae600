#!/usr/bin/env bash
# Times one BESA step on a block of SmolLM2-135M's shape in besa and in PyTorch, in turn, and prints the ratios.
#   usage: bench-torch.sh BESA [ROUNDS]
# PYTHON names a Python that has PyTorch (pip install torch); default python3. THREADS="1 2" are the thread counts.
set -euo pipefail
besa=${1:?usage: bench-torch.sh BESA [ROUNDS]} rounds=${2:-5} python=${PYTHON:-python3}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for threads in ${THREADS:-1 2}; do
  for ((i = 0; i < rounds; i++)); do
    "$besa" bench --only smollm2 --threads "$threads" --json 2>/dev/null >>"$work/besa.$threads"
    "$python" "$here/torch-step.py" --threads "$threads" >>"$work/torch.$threads"
  done
done

"$python" - "$work" <<'PYTHON'
import glob, json, sys

def documents(path):
    text, decoder = open(path).read().lstrip(), json.JSONDecoder()
    while text:
        value, end = decoder.raw_decode(text)
        text = text[end:].lstrip()
        yield value

print("| threads | | PyTorch | besa | ratio |\n| ---: | --- | ---: | ---: | ---: |")
for path in sorted(glob.glob(sys.argv[1] + "/besa.*")):
    threads = path.rsplit(".", 1)[1]
    ours = {}  # (row, precision): best seconds over all rounds
    for report in documents(path):
        for row in report["rows"]:
            key = (row["name"].split(", ", 2)[2], row["precision"])
            ours[key] = min(ours.get(key, row["seconds"]), row["seconds"])
    torch = list(documents(sys.argv[1] + "/torch." + threads))
    dense, step = (min(t[k] for t in torch) for k in ("dense_seconds", "step_seconds"))
    for precision in dict.fromkeys(p for _, p in ours):
        mine = ours["dense forward", precision], ours["BESA step", precision]
        for what, a, b in (("dense forward", dense, mine[0]), ("BESA step", step, mine[1]), ("both", dense + step, sum(mine))):
            print(f"| {threads} | {what}, {precision} | {1e3 * a:.1f} ms | {1e3 * b:.1f} ms | {a / b:.2f} |")
PYTHON
