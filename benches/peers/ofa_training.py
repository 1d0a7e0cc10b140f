#!/usr/bin/env python3
"""Training steps with the once-for-all package on PyTorch, on the CPU.

The peer of `cargo bench --bench training`: batch 64 at 48 px, width 0.25, 10 classes, SGD with
Nesterov's momentum, label smoothing 0.1, dropout 0.1; the same sub-networks. It prints the median
time of a step in milliseconds.

    pip install -r benches/peers/requirements.txt
    python benches/peers/ofa_training.py --threads 2
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3

SIDE, IMAGES, CLASSES = 48, 64, 10


def mixed(offset):
    pick = lambda values, i: values[(i + offset) % 3]
    return {
        "ks": [pick([3, 5, 7], i) for i in range(20)],
        "e": [pick([3, 4, 6], i // 2) for i in range(20)],
        "d": [pick([2, 3, 4], i) for i in range(5)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", help="write the medians, in milliseconds, to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    def network():
        net = OFAMobileNetV3(
            n_classes=CLASSES, dropout_rate=0.1, width_mult=0.25,
            ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4],
        )
        return net.train()

    net, teacher = network(), network()
    decay = [p for n, p in net.named_parameters() if "bn" not in n and "bias" not in n]
    rest = [p for n, p in net.named_parameters() if "bn" in n or "bias" in n]
    optimiser = torch.optim.SGD(
        [{"params": decay, "weight_decay": 3e-5}, {"params": rest, "weight_decay": 0}],
        lr=1e-3, momentum=0.9, nesterov=True,
    )
    images = torch.randn(IMAGES, 3, SIDE, SIDE)
    labels = torch.arange(IMAGES) % CLASSES

    def step(settings, teach):
        optimiser.zero_grad()
        with torch.no_grad():
            soft = F.softmax(teacher(images), dim=1) if teach else None
        for setting in settings:
            net.set_active_subnet(**setting)
            output = net(images)
            loss = F.cross_entropy(output, labels, label_smoothing=0.1)
            if teach:
                loss = loss - (soft * F.log_softmax(output, dim=1)).sum(1).mean()
            loss.backward()
        optimiser.step()

    largest = {"ks": 7, "e": 6, "d": 4}
    smallest = {"ks": 3, "e": 3, "d": 2}
    print(f"torch {torch.__version__}, {arguments.threads} threads")
    medians = {}
    for name, settings, teach in [
        ("largest", [largest], False),
        ("smallest", [smallest], False),
        ("distilled", [mixed(0), mixed(1)], True),
    ]:
        times = []
        for index in range(arguments.repeat + 3):
            start = time.perf_counter()
            step(settings, teach)
            times.append(time.perf_counter() - start)
        medians[name] = 1e3 * statistics.median(times[3:])
        print(f"{name:<10} {medians[name]:8.1f} ms a step")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"torch": torch.__version__, "threads": arguments.threads, "milliseconds": medians}, file)


if __name__ == "__main__":
    main()
