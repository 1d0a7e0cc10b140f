#!/usr/bin/env python3
"""Exported networks in onnxruntime, on the CPU, next to natv2 itself.

Each architecture is taken out of the super-network twice by `natv2 export`, with the statistics that
recalibration finds: as ONNX with its batch norms folded, and as safetensors. onnxruntime runs the
first on images that are resized and normalised already. natv2 runs the second by `natv2 bench
evaluate`: the time with the stored statistics alone, from stored pixels to accuracy, so loading and
resizing are natv2's to pay. The two take turns, the best of the rounds counts, and both must answer
alike but for one image in a thousand.

    pip install -r benches/peers/requirements.txt
    python benches/peers/onnxruntime_inference.py --natv2 target/release/natv2 --threads 2 \\
        --weights checkpoints/ofa_mbv3_w025_cifar10.safetensors --archs archs.jsonl --data-dir DIR
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime

from ofa_pytorch import cifar10, digits, read_archs, transform


def natv2(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True)
    return done.stdout


def session(path, threads):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--natv2", default="target/release/natv2", help="the program (default %(default)s)")
    parser.add_argument("--weights", required=True, help="safetensors of a super-network; its card is read beside it")
    parser.add_argument("--archs", required=True, help="as for ofa_pytorch.py")
    parser.add_argument("--first", type=int, help="only the first N architectures")
    parser.add_argument("--data", choices=["cifar10", "digits"], help="default: the card's")
    parser.add_argument("--data-dir", help="the folder of CIFAR-10's binary files, or its parent")
    parser.add_argument("--images", type=int, default=2000, help="the first N test images (default %(default)s)")
    parser.add_argument("--batch", type=int, default=100, help="images of an onnxruntime pass (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args()

    weights = pathlib.Path(options.weights)
    card = json.loads(weights.with_suffix("").with_suffix(".card.json").read_text())
    name = options.data or card["data"]
    data = digits() if name == "digits" else cifar10(options.data_dir, card.get("validation_images"))
    images, labels, splits, scale = data
    indices = list(splits["test"])[: options.images]
    images, labels = images[indices], labels[indices].numpy()
    where = ["--data", name] + (["--data-dir", options.data_dir] if options.data_dir else [])

    print(f"onnxruntime {onnxruntime.__version__}, {options.threads} thread(s), {name}: {len(images)} images")
    print("  #    r   depth    top1   onnxruntime       natv2  images a second   ratio")
    results = []
    for number, row in enumerate(read_archs(options.archs)[: options.first]):
        arch = row["arch"]
        with tempfile.TemporaryDirectory() as folder:
            files = [pathlib.Path(folder, "net" + ending) for ending in (".onnx", ".safetensors")]
            for file in files:
                natv2(options.natv2, "export", "--weights", weights, "--arch", json.dumps(arch), *where,
                      "--out", file)
            network = session(files[0], options.threads)
            x = transform(images, arch["r"], card, scale).numpy()
            batches = [np.ascontiguousarray(x[i : i + options.batch]) for i in range(0, len(x), options.batch)]
            seconds = {"onnxruntime": [], "natv2": []}
            for round in range(options.rounds + 1):
                start = time.perf_counter()
                logits = [network.run(["logits"], {"images": batch})[0] for batch in batches]
                taken = time.perf_counter() - start
                if round > 0:
                    seconds["onnxruntime"].append(taken)
                report = json.loads(natv2(
                    options.natv2, "bench", "evaluate", "--weights", files[1], *where, "--images", options.images,
                    "--threads", options.threads, "--device", "cpu", "--population", 0, "--rounds", 3, "--json"))
                single = next(s for s in report["singles"] if s["resolution"] == arch["r"])
                if round > 0:
                    seconds["natv2"].append(single["inference"]["least"])
            report = natv2(options.natv2, "evaluate", "--weights", files[1], *where, "--images", options.images,
                           "--device", "cpu", "--json")
        top1 = 100 * float((np.concatenate(logits).argmax(1) == labels).mean())
        ours = json.loads(report)["results"][0]["top1"]
        if abs(top1 - ours) > 0.1001:
            raise SystemExit(f"network {number}: {top1} in onnxruntime, {ours} in natv2")
        rates = {peer: len(images) / min(times) for peer, times in seconds.items()}
        ratio = rates["natv2"] / rates["onnxruntime"]
        print(f"{number:3} {arch['r']:4}   {''.join(map(str, arch['d']))} {top1:7.2f}  {rates['onnxruntime']:12.0f} "
              f"{rates['natv2']:11.0f} {ratio:24.2f}", flush=True)
        results.append({"arch": arch, "top1": top1, "images_per_second": rates, "ratio": ratio})
    if options.json:
        summary = {"peer": "onnxruntime", "version": onnxruntime.__version__, "threads": options.threads,
                   "batch": options.batch, "images": len(images), "results": results}
        pathlib.Path(options.json).write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
