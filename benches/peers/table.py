#!/usr/bin/env python3
"""The table of ratios at the end of run.sh, from the JSON that it collected and criterion's medians.

    python benches/peers/table.py target/peers-results target/criterion
"""

import json
import pathlib
import sys


def criterion(folder):
    """Medians in milliseconds by the end of the id: group, device and case."""
    medians = {}
    for about in pathlib.Path(folder).rglob("new/benchmark.json"):
        name = json.loads(about.read_text())["full_id"]
        estimates = json.loads((about.parent / "estimates.json").read_text())
        medians[name] = estimates["median"]["point_estimate"] / 1e6
    return medians


def main():
    results, medians = pathlib.Path(sys.argv[1]), criterion(sys.argv[2])
    read = lambda name: json.loads((results / name).read_text())
    rows = []

    def row(what, unit, ours, peer, theirs, target=""):
        rows.append((what, f"{ours:.4g} {unit}", f"{peer}: {theirs:.4g} {unit}", f"{theirs / ours:.2f}", target))

    def ours(end):
        found = [median for name, median in medians.items() if name.endswith(end)]
        if len(found) != 1:
            sys.exit(f"{len(found)} benchmarks of criterion end in {end}, not one: remove its folder and run again")
        return found[0]

    before, after, ofa = read("evaluate-before.json"), read("evaluate-after.json"), read("ofa.json")
    seconds = min(before["seconds"], after["seconds"])
    torch = f"once-for-all on PyTorch {ofa['torch']}"
    row(f"population of {len(ofa['results'])}", "s", seconds, torch, ofa["population_seconds"], "10")
    exported = read("onnxruntime.json")
    for result in exported["results"][:3]:
        rates = result["images_per_second"]
        name = f"inference, {result['arch']['r']} px, depths {''.join(map(str, result['arch']['d']))}"
        peer = f"onnxruntime {exported['version']}"
        row(name, "us an image", 1e6 / rates["natv2"], peer, 1e6 / rates["onnxruntime"])
    steps, theirs = read("train.json")["steps"], read("ofa-training.json")["milliseconds"]
    steps = {step["name"]: 1e3 * step["seconds"]["median"] for step in steps}
    for own, name in (("largest", "largest"), ("smallest", "smallest"), ("two mixed, teacher", "distilled")):
        row(f"training step, {own}", "ms", steps[own], torch, theirs[name], "3")
    sorting, pymoo, moors = read("pymoo-sorting.json"), read("pymoo.json"), read("moors.json")
    for objectives in (2, 3, 4):
        case = f"moo/sorting/10000x{objectives}"
        own = ours(f"sorting/10000x{objectives}")
        target = "1" if objectives < 4 else ""
        row(f"sorting 10,000 x {objectives}", "ms", own, f"pymoo {sorting['pymoo']}",
            sorting["cases"][case]["median_ms"], target)
        row(f"sorting 10,000 x {objectives}", "ms", own, f"moors {moors['moors']}",
            moors["cases"][case]["median_ms"], target)
    case = "moo/search/nsga3/100x20"
    for name, peer in ((f"pymoo {pymoo['pymoo']}", pymoo), (f"moors {moors['moors']}", moors)):
        row("NSGA-III, 100 x 20", "ms", ours("nsga3/100x20"), name, peer["cases"][case]["median_ms"], "ours < 10 ms")
    light = read("lightgbm.json")
    native = light["seconds"]["native interface"]
    peer = f"LightGBM {light['lightgbm']}"
    row("predictor: fit 10 x 300", "ms", ours("gbdt/fit 10x300"), peer, 1e3 * native["fit"], "5")
    row("predictor: 2,000 predictions", "ms", ours("gbdt/predict 2000"), peer, 1e3 * native["predict"], "5")

    print("| what | natv2 | peer | ratio | target |\n| --- | --- | --- | --- | --- |")
    for cells in rows:
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
