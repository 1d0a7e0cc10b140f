#!/usr/bin/env python3
"""Evaluate sub-networks with the once-for-all package on PyTorch, on the CPU.

The peer of `natv2 evaluate`: the same weights, the same images, the same recalibration (batches
of 100 training images in file order, batch means and biased variances averaged with equal
weight, by the package's own set_running_statistics). It prints top-1 and loss of every network,
and three times: the forward pass of one batch, one whole evaluation (from stored u8 pixels to
accuracy: resizing, recalibration, all images), and the population, one network after another as
the package does it. Images and weights are loaded before the clocks start.
On a machine that is busy otherwise PyTorch's threads wait for each other and times explode: use a
quiet one, or --best-of.

    pip install -r benches/peers/requirements.txt
    python benches/peers/ofa_pytorch.py --weights checkpoints/ofa_mbv3_w025_cifar10.safetensors \\
        --archs checkpoints/ofa_mbv3_w025_cifar10.accuracies.json --first 6 --data-dir DIR --threads 2

The architectures are a table NAME.accuracies.json, a JSON list of architectures, or one
architecture a line. With a table, --check fails if an accuracy is more than 0.15 points, or a
loss more than 1e-3, from it.
"""

import argparse
import json
import pathlib
import re
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

BATCH = 100


def cifar10(folder, validation_images):
    """Images N x 3 x 32 x 32 (u8), labels, and the split's index ranges."""
    folder = pathlib.Path(folder)
    if not (folder / "test_batch.bin").exists():
        folder = folder / "cifar-10-batches-bin"
    number = lambda path: int(re.search(r"(\d+)\.bin$", path.name)[1])
    files = sorted(folder.glob("data_batch_*.bin"), key=number) + [folder / "test_batch.bin"]
    records = [np.fromfile(file, np.uint8).reshape(-1, 3073) for file in files]
    training = sum(map(len, records[:-1]))
    records = np.concatenate(records)
    held_back = training // 10 if validation_images is None else validation_images
    splits = {
        "train": range(training - held_back),
        "val": range(training - held_back, training),
        "test": range(training, len(records)),
    }
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return images, torch.from_numpy(records[:, 0].astype(np.int64)), splits, 255.0


def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images.astype(np.uint8))[:, None].repeat(1, 3, 1, 1)
    rest = {"train": (0, 1, 2), "val": (3,), "test": (4,)}
    splits = {name: [i for i in range(len(images)) if i % 5 in rests] for name, rests in rest.items()}
    return images, torch.from_numpy(data.target.astype(np.int64)), splits, 16.0


def transform(images, r, card, scale):
    """u8 N x 3 x H x W to the network's input."""
    mean, std = (torch.tensor(card[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    x = (images.float() / scale - mean) / std
    return F.interpolate(x, size=(r, r), mode="bilinear", align_corners=False)


def super_network(tensors):
    from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3

    width = tensors["feature_mix_layer.conv.weight"].shape[0] / 1280
    net = OFAMobileNetV3(
        n_classes=tensors["classifier.linear.weight"].shape[0],
        width_mult=width,
        ks_list=[3, 5, 7],
        expand_ratio_list=[3, 4, 6],
        depth_list=[2, 3, 4],
    )
    missing, unexpected = torch.nn.Module.load_state_dict(net, tensors, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        sys.exit(f"tensor {(missing + unexpected)[0]} does not fit the once-for-all package's network")
    return net.eval()


class Evaluator:
    def __init__(self, net, images, labels, splits, scale, card, options):
        self.net, self.card, self.scale, self.options = net, card, scale, options
        indices = list(splits[options.split])[: options.images]
        self.images, self.labels = images[indices], labels[indices]
        count = options.calibration_images or card.get("calibration_images", 500)
        self.calibration = images[list(splits["train"])[:count]]
        if not len(self.images) or not len(self.calibration):
            sys.exit(f"split `{options.split}` or the training split has no images")

    def sub_network(self, arch):
        """The network as the package extracts it, or the shared one with the choices active."""
        self.net.set_active_subnet(ks=arch["ks"], e=arch["e"], d=arch["d"])
        return self.net if self.options.shared else self.net.get_active_subnet(preserve_weight=True).eval()

    def recalibrate(self, net, r):
        from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics

        size = min(BATCH, len(self.calibration))
        whole = len(self.calibration) // size * size
        batches = self.calibration[:whole].split(size)
        set_running_statistics(net, ((transform(batch, r, self.card, self.scale), None) for batch in batches))

    def evaluate(self, arch):
        """top-1 in per cent, mean cross entropy, seconds."""
        start = time.perf_counter()
        net = self.sub_network(arch)
        self.recalibrate(net, arch["r"])
        correct, loss = 0, 0.0
        with torch.inference_mode():
            for images, labels in zip(self.images.split(self.options.batch), self.labels.split(self.options.batch)):
                logits = net(transform(images, arch["r"], self.card, self.scale))
                correct += (logits.argmax(1) == labels).sum().item()
                loss += F.cross_entropy(logits, labels, reduction="sum").item()
        count = len(self.images)
        return 100 * correct / count, loss / count, time.perf_counter() - start

    def forward_seconds(self, arch):
        """Median time of one batch through the network alone."""
        net = self.sub_network(arch)
        x = transform(self.images[: self.options.batch], arch["r"], self.card, self.scale)
        times = []
        with torch.inference_mode():
            for _ in range(self.options.repeats + 2):
                start = time.perf_counter()
                net(x)
                times.append(time.perf_counter() - start)
        return float(np.median(times[2:])), len(x)


def read_archs(path):
    """Rows with an "arch", and "top1" and "loss" where the file has them."""
    text = pathlib.Path(path).read_text()
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        content = [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(content, dict):
        # A table of accuracies, the archive or the front of a run, or one architecture.
        content = content.get("rows") or content.get("networks") or [content]
    return [row if "arch" in row else {"arch": row} for row in content]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, help="safetensors; NAME.card.json is read beside it")
    parser.add_argument("--card", help="another card")
    parser.add_argument("--archs", required=True, help="a table of accuracies, an archive, a JSON list, or one architecture a line")
    parser.add_argument("--first", type=int, help="only the first N architectures")
    parser.add_argument("--sample", type=int, help="only N architectures, evenly spread over the file")
    parser.add_argument("--data", choices=["cifar10", "digits"], help="default: the card's")
    parser.add_argument("--data-dir", help="the folder of CIFAR-10's binary files, or its parent")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test")
    parser.add_argument("--images", type=int, help="the first N of the split (default: all)")
    parser.add_argument("--calibration-images", type=int, help="default: the card's")
    parser.add_argument("--batch", type=int, default=BATCH, help="images a forward pass (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=10, help="forward passes timed (default %(default)s)")
    parser.add_argument("--best-of", type=int, default=1, help="evaluate each network N times, report the least time")
    parser.add_argument("--shared", action="store_true", help="run the shared network instead of extracted ones")
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--check", action="store_true", help="fail where a result is not the table's")
    parser.add_argument("--json", help="write all results to this file")
    options = parser.parse_args()

    if options.threads:
        torch.set_num_threads(options.threads)
    weights = pathlib.Path(options.weights)
    card = json.loads(pathlib.Path(options.card or weights.with_suffix("").with_suffix(".card.json")).read_text())
    name = options.data or card["data"]
    if name == "cifar10" and not options.data_dir:
        parser.error("--data-dir is needed for cifar10")
    data = digits() if name == "digits" else cifar10(options.data_dir, card.get("validation_images"))
    rows = read_archs(options.archs)
    if options.sample and options.sample < len(rows):
        rows = [rows[i * len(rows) // options.sample] for i in range(options.sample)]
    rows = rows[: options.first]
    evaluator = Evaluator(super_network(load_file(weights)), *data, card, options)

    evaluator.evaluate(rows[0]["arch"])  # warm-up: first-use costs of PyTorch's kernels
    print(
        f"once-for-all on PyTorch {torch.__version__}, {torch.get_num_threads()} thread(s), {name}: "
        f"{len(evaluator.images)} images, {len(evaluator.calibration)} for recalibration, "
        f"{'shared' if options.shared else 'extracted'} networks"
    )
    print("  #    r   depth      top1      loss   off table       forward         evaluation")
    results, worst = [], [0.0, 0.0]
    for number, row in enumerate(rows):
        arch = row["arch"]
        runs = [evaluator.evaluate(arch) for _ in range(max(options.best_of, 1))]
        top1, loss, seconds = min(runs, key=lambda run: run[2])
        forward, batch = evaluator.forward_seconds(arch)
        off = ""
        if "loss" in row:
            difference = abs(top1 - row["top1"]), abs(loss - row["loss"])
            worst = [max(pair) for pair in zip(worst, difference)]
            off = f"{difference[0]:.3f} {difference[1]:.0e}"
        print(
            f"{number:3} {arch['r']:4}   {''.join(map(str, arch['d']))}   {top1:7.3f} {loss:9.6f}   {off:11} "
            f"{1e3 * forward:8.2f} ms / {batch}   {seconds:8.3f} s"
        )
        results.append({"arch": arch, "top1": top1, "loss": loss, "seconds": seconds,
                        "forward_seconds": forward, "forward_images": batch})
    total = sum(result["seconds"] for result in results)
    print(f"population of {len(results)}: {total:.2f} s, {len(results) / total:.3f} sub-networks a second")
    if options.json:
        summary = {"peer": "once-for-all", "torch": torch.__version__, "threads": torch.get_num_threads(), "data": name,
                   "split": options.split, "images": len(evaluator.images),
                   "calibration_images": len(evaluator.calibration), "batch": options.batch, "best_of": options.best_of,
                   "shared": options.shared, "population_seconds": total,
                   "networks_per_second": len(results) / total, "results": results}
        pathlib.Path(options.json).write_text(json.dumps(summary, indent=1) + "\n")
    if options.check:
        print(f"largest difference from the table: {worst[0]:.3f} points, loss {worst[1]:.1e}")
        # Half a step of the table's rounding to four digits on top.
        if not any("loss" in row for row in rows) or worst[0] > 0.1501 or worst[1] > 1e-3:
            sys.exit("the results are not those of the table")


if __name__ == "__main__":
    main()
