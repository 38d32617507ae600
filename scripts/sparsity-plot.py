#!/usr/bin/env python3
"""Draws the learned sparsity of every linear layer as an SVG heat map.

usage: besa convert --json ... > report.json; sparsity-plot.py report.json > sparsity.svg
"""
import json
import sys

LAYERS = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
CELL_W, CELL_H, LEFT, TOP, FONT = 24, 24, 96, 48, "font-family='sans-serif'"
SPAN = 0.12  # distance from the target at which the colour saturates


def colour(value, target):
    """White at the target, blue where more survives, orange where less does."""
    t = max(-1.0, min(1.0, (value - target) / SPAN))
    end = (214, 96, 18) if t > 0 else (28, 98, 186)
    return "#" + "".join(f"{round(255 + (c - 255) * abs(t)):02x}" for c in end)


def main():
    report = json.load(open(sys.argv[1]))
    target, blocks = report["sparsity_target"], report["blocks"]
    width, height = LEFT + CELL_W * len(blocks) + 16, TOP + CELL_H * len(LAYERS) + 40
    out = [f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}'>",
           f"<rect width='{width}' height='{height}' fill='white'/>",
           f"<text x='{LEFT}' y='22' {FONT} font-size='13'>Learned sparsity in per cent (target {100 * target:.0f}), "
           f"{report['architecture']} model, {len(blocks)} blocks</text>"]
    for row, layer in enumerate(LAYERS):
        y = TOP + row * CELL_H
        out.append(f"<text x='{LEFT - 8}' y='{y + 16}' {FONT} font-size='11' text-anchor='end'>{layer}</text>")
        for block in blocks:
            value = block["layer_sparsity"][layer]
            x = LEFT + block["block"] * CELL_W
            dark = abs(value - target) > 0.6 * SPAN
            out.append(f"<rect x='{x}' y='{y}' width='{CELL_W - 1}' height='{CELL_H - 1}' fill='{colour(value, target)}'/>"
                       f"<text x='{x + CELL_W / 2}' y='{y + 16}' {FONT} font-size='9' text-anchor='middle' "
                       f"fill='{'white' if dark else '#333'}'>{100 * value:.0f}</text>")
    for block in blocks:
        x = LEFT + block["block"] * CELL_W + CELL_W / 2
        out.append(f"<text x='{x}' y='{TOP + CELL_H * len(LAYERS) + 14}' {FONT} font-size='9' text-anchor='middle'>{block['block']}</text>")
    out.append(f"<text x='{LEFT}' y='{height - 8}' {FONT} font-size='11'>block</text></svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
