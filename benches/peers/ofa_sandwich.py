#!/usr/bin/env python3
"""Train a super-network on CIFAR-10 with the once-for-all package on PyTorch, on the CPU.

The peer of a training with the sandwich rule, in the recipe that made `ofa_mbv3_w025_cifar10`: plain OFA MobileNetV3 at
width 0.25, PyTorch's own default initialisation, no dropout. A step takes 128 images, flipped half of the times and
cropped with a border of 4 black pixels, at one of 32, 40 and 48 px; its gradient is the sum of two:

- the largest network's, on labels with smoothing 0.1;
- that of one random sub-network, distilled from the largest network's answers in the same step. Its loss is
  distillation alone: the mean over images of -sum p log softmax(logits) with p = softmax(logits of the largest
  network), temperature 1. It sees no labels.

SGD with Nesterov's momentum 0.9, weight decay 3e-5 on weights (not on biases and batch norms), rate 0.08 that falls to 0
along one cosine: over the steps of `--epochs`, or with `--minutes` over the time, at whose end training ends.

Weights and images lie channel by channel of a pixel (`channels_last`) in training: a step takes about three quarters of
the time then (measured on one thread).

Then the largest and the smallest network at each resolution and 20 random networks, always the same, are measured on all
test images, with batch norms recalibrated on 500 training images, by `ofa_pytorch.py`'s evaluation. Training images are
those of natv2: without the last tenth in file order.

    pip install -r benches/peers/requirements.txt
    python benches/peers/ofa_sandwich.py --data-dir CIFAR_FOLDER --minutes 30 --threads 2 --json FILE

On a machine that is busy otherwise PyTorch's threads wait for each other; what `--minutes` reaches there says little.
"""

import argparse
import json
import math
import pathlib
import random
import sys
import time

import torch
import torch.nn.functional as F
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3

import ofa_pytorch

CARD = pathlib.Path(__file__).resolve().parents[2] / "checkpoints/ofa_mbv3_w025_cifar10.card.json"
WIDTH, CLASSES = 0.25, 10
KERNELS, EXPANSIONS, DEPTHS, RESOLUTIONS = [3, 5, 7], [3, 4, 6], [2, 3, 4], [32, 40, 48]
BATCH, BORDER = 128, 4
RATE, MOMENTUM, DECAY, SMOOTHING = 0.08, 0.9, 3e-5, 0.1
CALIBRATION_IMAGES, RANDOM_NETWORKS = 500, 20
LARGEST = {"ks": 7, "e": 6, "d": 4}
SMALLEST = {"ks": 3, "e": 3, "d": 2}


class Augmented:
    """Training images with a border, of which batches are cut out."""

    def __init__(self, images, labels, card):
        self.images, self.labels, self.card = F.pad(images, [BORDER] * 4), labels, card
        self.side = images.shape[-1]

    def batch(self, indices, r):
        """The images, as the network takes them, and their labels."""
        count = len(indices)
        place = torch.arange(self.side)
        top, left = (torch.randint(0, 2 * BORDER + 1, (count, 1)) for _ in range(2))
        columns = torch.where(torch.rand(count, 1) < 0.5, place.flip(0), place)
        rows, columns = top + place, left + columns
        cut = self.images[indices[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        made = ofa_pytorch.transform(cut, r, self.card, 255.0)
        return made.contiguous(memory_format=torch.channels_last), self.labels[indices]


class Schedule:
    """The share of a training that is over, in steps or in time."""

    def __init__(self, options, steps_of_epoch):
        self.steps = options.epochs and options.epochs * steps_of_epoch
        self.seconds = options.minutes and 60 * options.minutes
        self.start = time.perf_counter()

    def elapsed(self):
        return time.perf_counter() - self.start

    def over(self, step):
        return min(step / self.steps if self.steps else self.elapsed() / self.seconds, 1.0)


def super_network():
    return OFAMobileNetV3(
        n_classes=CLASSES, dropout_rate=0, width_mult=WIDTH,
        ks_list=KERNELS, expand_ratio_list=EXPANSIONS, depth_list=DEPTHS,
    )


def optimiser_of(net):
    plain = lambda name: "bn" in name or "bias" in name
    decayed = [p for name, p in net.named_parameters() if not plain(name)]
    rest = [p for name, p in net.named_parameters() if plain(name)]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0}]
    return torch.optim.SGD(groups, lr=RATE, momentum=MOMENTUM, nesterov=True)


def step(net, optimiser, images, labels):
    """One step; the losses of the largest network and of the one distilled from it."""
    optimiser.zero_grad()
    net.set_active_subnet(**LARGEST)
    logits = net(images)
    loss = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
    loss.backward()
    answers = F.softmax(logits.detach(), dim=1)
    net.sample_active_subnet()
    taught = -(answers * F.log_softmax(net(images), dim=1)).sum(1).mean()
    taught.backward()
    optimiser.step()
    return loss.item(), taught.item()


def train(net, data, options):
    """Trains the network; what it took, and the mean losses of its epochs."""
    net.train().to(memory_format=torch.channels_last)
    optimiser = optimiser_of(net)
    steps_of_epoch = len(data.labels) // BATCH
    if not steps_of_epoch:
        sys.exit(f"{len(data.labels)} training images are less than a batch of {BATCH}")
    schedule, number, history = Schedule(options, steps_of_epoch), 0, []
    while schedule.over(number) < 1:
        losses = []
        for indices in torch.randperm(len(data.labels))[: steps_of_epoch * BATCH].split(BATCH):
            over = schedule.over(number)
            if over >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = 0.5 * RATE * (1 + math.cos(math.pi * over))
            losses.append(step(net, optimiser, *data.batch(indices, random.choice(RESOLUTIONS))))
            number += 1
            if not all(map(math.isfinite, losses[-1])):
                sys.exit(f"the loss of step {number} is no number")
        if losses:
            largest, taught = (sum(column) / len(losses) for column in zip(*losses))
            seconds = schedule.elapsed()
            history.append({"steps": number, "seconds": seconds, "largest": largest, "distilled": taught})
            print(f"epoch {number / steps_of_epoch:7.2f}  {seconds:8.1f} s  largest {largest:.4f}  distilled {taught:.4f}", flush=True)
    return {"steps": number, "epochs": number / steps_of_epoch, "seconds": schedule.elapsed(), "history": history}


def whole(ks, e, d):
    return {"ks": [ks] * 20, "e": [e] * 20, "d": [d] * 5}


def measured_networks(count):
    """What is measured, by kind: the ends of the space at each resolution, and random networks, the same in every run."""
    networks = [("largest", {"r": r} | whole(**LARGEST)) for r in RESOLUTIONS]
    networks += [("smallest", {"r": r} | whole(**SMALLEST)) for r in RESOLUTIONS]
    draws = random.Random(0)
    pick = lambda values: values[int(draws.random() * len(values))]
    for _ in range(count):
        arch = {
            "r": pick(RESOLUTIONS),
            "ks": [pick(KERNELS) for _ in range(20)],
            "e": [pick(EXPANSIONS) for _ in range(20)],
            "d": [pick(DEPTHS) for _ in range(5)],
        }
        networks.append(("random", arch))
    return networks


def measure(net, cifar, card, options):
    """Accuracies and losses on test images."""
    images, labels, splits, scale = cifar
    wanted = argparse.Namespace(
        split="test", images=options.test_images, calibration_images=CALIBRATION_IMAGES, batch=ofa_pytorch.BATCH, shared=False
    )
    evaluator = ofa_pytorch.Evaluator(net.eval(), images, labels, splits, scale, card, wanted)
    rows = []
    for kind, arch in measured_networks(options.random_networks):
        top1, loss, seconds = evaluator.evaluate(arch)
        rows.append({"network": kind, "arch": arch, "top1": top1, "loss": loss, "seconds": seconds})
        print(f"{kind:8} {arch['r']:3} px  depth {''.join(map(str, arch['d']))}  top1 {top1:6.2f}  loss {loss:.4f}", flush=True)
    return rows, len(evaluator.images)


def save(net, path, card, options, took):
    """Weights in natv2's form, and their card."""
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    save_file({name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}, path)
    trained = (
        f"{took['training_images']} CIFAR-10 training images, {took['epochs']:.2f} epochs in {took['seconds'] / 60:.1f} minutes "
        f"on PyTorch with the once-for-all package (benches/peers/ofa_sandwich.py), {took['threads']} thread(s), seed {options.seed}"
    )
    card = card | {"trained": trained, "validation_images": took["validation_images"]}
    path.with_suffix(".card.json").write_text(json.dumps(card, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="the folder of CIFAR-10's binary files, or its parent")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--epochs", type=float, help="train for so many epochs")
    length.add_argument("--minutes", type=float, help="train for so long; the cosine runs over time")
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--seed", type=int, default=0, help="of weights and draws (default %(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="write accuracies and losses to this file")
    parser.add_argument("--out", type=pathlib.Path, help="write the weights to this safetensors file, and their card beside it")
    parser.add_argument("--train-images", type=int, help="the first N training images (default: all)")
    parser.add_argument("--test-images", type=int, help="the first N test images (default: all)")
    parser.add_argument("--random-networks", type=int, default=RANDOM_NETWORKS, help="so many (default %(default)s)")
    options = parser.parse_args()
    if max(options.epochs or 0, options.minutes or 0) <= 0:
        parser.error("a training has a length above 0")

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    card = json.loads(CARD.read_text())
    cifar = ofa_pytorch.cifar10(options.data_dir, None)
    images, labels, splits, _ = cifar
    chosen = list(splits["train"])[: options.train_images]
    net = super_network()
    took = {
        "peer": "once-for-all", "torch": torch.__version__, "threads": torch.get_num_threads(), "seed": options.seed,
        "training_images": len(chosen), "validation_images": len(splits["val"]),
    }
    print(f"once-for-all on PyTorch {took['torch']}, {took['threads']} thread(s), {len(chosen)} training images, seed {options.seed}")
    took |= train(net, Augmented(images[chosen], labels[chosen], card), options)
    net.to(memory_format=torch.contiguous_format)
    if options.out:
        save(net, options.out, card, options, took)
    rows, count = measure(net, cifar, card, options)
    means = {}
    for kind in ("largest", "smallest", "random"):
        found = [row["top1"] for row in rows if row["network"] == kind]
        means |= {kind: sum(found) / len(found)} if found else {}
    print("mean top1: " + ", ".join(f"{kind} {mean:.2f}" for kind, mean in means.items()))
    if options.json:
        took |= {"test_images": count, "calibration_images": CALIBRATION_IMAGES, "mean_top1": means, "rows": rows}
        options.json.write_text(json.dumps(took, indent=1) + "\n")


if __name__ == "__main__":
    main()
