#!/usr/bin/env python3
"""Tables of what scripts/gpu-check.sh has measured on a card, as Markdown. Needs Python alone.

    card_table.py results/summary.jsonl [--check]

The last line of a step counts, so that a part that was run again replaces the earlier one. What was to be shown is
written down here, in `criteria`, and was before a card was seen:

- every step of correctness passes;
- each fused MBConv takes at most 3 times what its estimate says (`bench kernels`);
- a population of 100 is evaluated at least 5 times as fast as PyTorch evaluates its networks one after another with
  CUDA graphs, both as networks a second.

With --check the exit code is 1 where one of them does not hold or was not measured.
"""

import argparse
import json
import re
import sys

CORRECTNESS = ["doctor", "fused", "golden", "engine", "memcheck", "racecheck"]
ESTIMATE_FACTOR = 3.0
POPULATION_FACTOR = 5.0


def read(path):
    """The last line of each step."""
    steps = {}
    with open(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                step = json.loads(line)
                steps[step["name"]] = step
            except (json.JSONDecodeError, KeyError, TypeError):
                # The line that a full disk cut off.
                print(f"{path}, line {number}: no step, left out", file=sys.stderr)
    if not steps:
        sys.exit(f"{path} holds no step: is it a summary.jsonl of gpu-check.sh?")
    return steps


def figures(steps, name):
    """A step's figures, or nothing where it did not pass."""
    step = steps.get(name, {})
    return (step.get("figures") or {}) if step.get("status") == "ok" else {}


def on_a_card(steps, name):
    """Whether a step's times are those of a card: the emulator's say nothing of one."""
    return steps.get(name, {}).get("device", "").startswith("cuda")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def number(value, digits=3):
    return "-" if value is None else f"{value:.{digits}g}"


def over(a, b):
    return a / b if a and b else None


def kernels(steps):
    """Rows of fused MBConvs with their estimates: shape, seconds, estimated seconds, ratio."""
    rows = figures(steps, "kernels-bf16").get("kernels", [])
    found = []
    for row in rows:
        if row["operator"] == "Mbconv" and row.get("estimated_seconds"):
            found.append((row["shape"], row["seconds"], row["estimated_seconds"], row["seconds"] / row["estimated_seconds"]))
    return found


def peers(steps):
    """PyTorch's rows for MBConvs, by what says which shape one is."""
    rows = figures(steps, "torch-mbconv").get("rows", [])
    key = lambda row: tuple([row["side"]] + [row["shape"][name] for name in ("stride", "kernel", "cin", "mid", "cout")])
    return {key(row): row for row in rows}


def shape_of(name):
    """The same of a natv2 shape: side, stride, kernel, input, expanded and output channels."""
    found = re.search(r" x (\d+)/(\d+) k(\d+), (\d+) to (\d+) to (\d+) of", name)
    return found and tuple(map(int, found.groups()))


def best_population(steps):
    """The fastest way that a population was evaluated: networks a second, and which way."""
    ways = [way for way in figures(steps, "population").get("ways", []) if way["work"] == "population"]
    return max(ways, key=lambda way: way["networks_per_second"], default=None)


def criteria(steps):
    """(what was to be shown, what was found, True, False, or None where it was not measured)"""
    states = {name: steps.get(name, {}).get("status", "not run") for name in CORRECTNESS}
    known = [state for state in states.values() if state in ("ok", "failed")]
    bad = [f"{name}: {state}" for name, state in states.items() if state != "ok"]
    held = None if not known else False if "failed" in known else True if len(known) == len(states) else None
    yield "all steps of correctness", ", ".join(bad) or "all passed", held
    fused = kernels(steps) if on_a_card(steps, "kernels-bf16") else []
    worst = max((row[3] for row in fused), default=None)
    yield (f"each fused MBConv within {ESTIMATE_FACTOR:g} times its estimate",
           f"{len(fused)} shapes, at most {number(worst)} times", None if worst is None else worst <= ESTIMATE_FACTOR)
    way, peer = best_population(steps), figures(steps, "torch-population").get("graph_networks_per_second")
    ratio = over(way and way["networks_per_second"], peer) if on_a_card(steps, "population") else None
    yield (f"a population at {POPULATION_FACTOR:g} times PyTorch with graphs",
           f"{number(ratio)} times", None if ratio is None else ratio >= POPULATION_FACTOR)


def report(steps):
    out = []
    about, card = figures(steps, "pack"), figures(steps, "card").get("text", "")
    out.append(f"natv2 {about.get('version', '?')} ({about.get('commit', '?')}), packed for {about.get('architecture', '?')}"
               f"; {card.split(';')[1].strip() if ';' in card else 'no card named itself'}")
    out.append("## What was to be shown\n\n" + table(
        ["what", "found", "holds"],
        [(what, found, {True: "yes", False: "NO", None: "not measured"}[held]) for what, found, held in criteria(steps)]))
    out.append("## Steps\n\n" + table(
        ["step", "status", "seconds", "why"],
        [(step["name"], step["status"], f"{step['seconds']:.1f}", step.get("why", "").replace("|", "/")) for step in steps.values()]))

    rows = []
    torch_peaks, bench = figures(steps, "torch-peaks"), figures(steps, "peaks") or figures(steps, "kernels-bf16")
    if bench:
        copy, products = bench.get("copy_gigabytes_per_second"), bench.get("peak_product_gigaflops")
        rows.append(("copy, GB/s", number(copy, 4), number(torch_peaks.get("copy_gigabytes_per_second"), 4),
                     number(over(copy, torch_peaks.get("copy_gigabytes_per_second")))))
        rows.append(("products in 16 bits, TFLOP/s", number(products and products / 1e3, 4),
                     number(torch_peaks.get("bf16_teraflops"), 4),
                     number(over(products and products / 1e3, torch_peaks.get("bf16_teraflops")))))
    way, peer = best_population(steps), figures(steps, "torch-population")
    if way:
        for kind in ("eager", "graph"):
            theirs = peer.get(f"{kind}_networks_per_second")
            rows.append((f"networks a second, {way['networks']} of them; PyTorch {kind}, {peer.get('networks', '-')}",
                         number(way["networks_per_second"], 4), number(theirs, 4),
                         number(over(way["networks_per_second"], theirs))))
    fused, theirs = kernels(steps), peers(steps)
    ours = {shape_of(shape): seconds for shape, seconds, _, _ in fused}
    if theirs and all(shape in ours for shape in theirs):
        count = lambda row: len(row["layers"])
        whole = sum(count(row) * 1e3 * ours[shape] for shape, row in theirs.items())
        for kind in ("eager", "graph"):
            if all(row[f"{kind}_ms"] for row in theirs.values()):
                peer = sum(count(row) * row[f"{kind}_ms"] for row in theirs.values())
                rows.append((f"MBConvs of a middle network, ms; PyTorch {kind}", number(whole, 4), number(peer, 4),
                             number(over(peer, whole))))
    if rows:
        out.append("## Beside PyTorch on the same card\n\n" + table(["what", "natv2", "PyTorch", "ratio"], rows))

    if fused:
        peer = lambda shape: (theirs.get(shape_of(shape)) or {}).get("graph_ms")
        out.append("## Fused MBConvs\n\n" + table(
            ["shape", "us", "estimate, us", "ratio", "PyTorch graph, us", "times as long"],
            [(shape, f"{1e6 * seconds:.1f}", f"{1e6 * estimate:.1f}", f"{ratio:.2f}",
              number(peer(shape) and 1e3 * peer(shape), 4), number(over(peer(shape), 1e3 * seconds)))
             for shape, seconds, estimate, ratio in fused]))
    ways = figures(steps, "population").get("ways", [])
    if ways:
        out.append("## Ways to evaluate\n\n" + table(
            ["work", "networks", "streams", "graphs", "seconds", "networks a second", "launches"],
            [(way["work"], way["networks"], way["streams"], way["graphs"], number(way["seconds"]["median"], 4),
              number(way["networks_per_second"], 4), way["launches"]) for way in ways]))
    launch = figures(steps, "population").get("launch")
    if launch:
        out.append("A launch, in microseconds: " + ", ".join(
            f"{name} {number(value)}" for name, value in launch.items() if isinstance(value, (int, float))))
    return "\n\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("summary", help="summary.jsonl of gpu-check.sh")
    parser.add_argument("--check", action="store_true", help="fail where what was to be shown was not")
    options = parser.parse_args()
    try:
        steps = read(options.summary)
    except OSError as error:
        sys.exit(f"{options.summary}: {error.strerror}")
    sys.stdout.write(report(steps))
    if options.check and not all(held for _, _, held in criteria(steps)):
        sys.exit(1)


if __name__ == "__main__":
    main()
