#!/usr/bin/env python3
"""Write the golden sandwich step: tests/golden/sandwich_w025_step.json and .safetensors.

A sandwich step (in-place distillation, arXiv 1903.05134 and 2003.11142) on one batch of images:

1. The largest network learns from labels, smoothed by 0.1. In a family with early exits it is read at all five, and its
   loss is the sum over exits of `exit_weights` times their cross entropies.
2. It teaches: p = softmax(logits), with early exits p = softmax(sum over exits of `answer_weights` times logits). No
   gradient goes back through p.
3. The smallest network and two random ones, each read at its own exit, learn from p alone: their loss is the mean over
   images of -sum p log softmax(logits).
4. The gradient is the sum of the gradients of these four losses.

Every pass normalises with its own batch statistics. This program is a definition of its own, in float64, and
PyTorch's autograd differentiates it; nothing here is shared with natv2 but the files: weights and images are
`ofav2_w025.safetensors` and `ofav2_w025_inputs.safetensors` in the same folder.

    python scripts/golden_sandwich_step.py            # writes both files
    python scripts/golden_sandwich_step.py --check    # compares, and exits with 1 where something is off

`--check` takes the steps of `ofav2_w025_step.json`, which another program has made, and compares losses, norms of
gradients, stored gradients, statistics and logits to 1e-6; then it computes the sandwich steps again and compares them
with the files written before in the same way. It needs PyTorch and numpy: `.ci/install-pytorch` prints a Python that
has them.
"""

import argparse
import json
import math
import pathlib
import random
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

STEM = "ofav2_w025"
OUT = "sandwich_w025_step"
SMOOTHING = 0.1
TOLERANCE = 1e-6
# Of the largest norm of a case: gradients below it are zero but for rounding, such as that of a shift before a batch norm.
NOTHING = 1e-12

# Per stage: channels at width multiplier 1, stride of the first layer, activation, squeeze-and-excitation.
STAGES = [
    (24, 2, "relu", False),
    (40, 2, "relu", True),
    (80, 2, "hswish", False),
    (112, 1, "hswish", True),
    (160, 2, "hswish", True),
]
DEPTH = 4
LAYERS = len(STAGES) * DEPTH

ASCENDING = [0.06, 0.13, 0.2, 0.27, 0.34]
DESCENDING = ASCENDING[::-1]
# A case: family, side of the images, weights of the exits in the joint loss and in the answers, exits of the two
# random networks, seed of their draws. The weights differ where it matters, so that one cannot pass for the other.
CASES = [
    ("SE_B", 48, None, None, (5, 5), 1),
    ("EE_D", 32, ASCENDING, DESCENDING, (3, 5), 2),
    ("EE_DP", 40, ASCENDING, ASCENDING, (4, 2), 3),
]
# Gradients that are stored whole, where the case has them: both ends of the network, a layer that all networks have and
# others, with their kernel transforms, squeeze-and-excitation and parallel branches. The last of a line is what heads have.
WHOLE = [
    "first_conv.conv.weight",
    "blocks.0.conv.depth_conv.conv.weight",
    "blocks.1.conv.inverted_bottleneck.conv.conv.weight",
    "blocks.1.conv.depth_conv.conv.conv.weight",
    "blocks.1.conv.depth_conv.conv.7to5_matrix",
    "blocks.1.conv.depth_conv.conv.5to3_matrix",
    "blocks.2.conv.depth_conv.conv.5to3_matrix",
    "blocks.2.conv.point_linear.bn.bn.weight",
    "blocks.6.conv.depth_conv.conv.conv.weight",
    "blocks.6.conv.depth_conv.conv.7to5_matrix",
    "blocks.6.conv.depth_conv.conv.5to3_matrix",
    "blocks.6.conv.depth_conv.se.fc.reduce.weight",
    "blocks.6.conv.depth_conv.se.fc.expand.weight",
    "blocks.6.conv.depth_conv.se.fc.expand.bias",
    "blocks.13.conv.depth_conv.conv.7to5_matrix",
    "blocks.18.conv.point_linear.conv.conv.weight",
    "blocks.5.parallel.pointwise.conv.weight",
    "blocks.5.parallel.transform.conv.weight",
    "blocks.5.parallel.transform.conv.bias",
    "blocks.7.parallel.pointwise.bn.weight",
    "classifier.linear.weight",
    "exits.0.classifier.linear.weight",
    "exits.0.classifier.linear.bias",
    "exits.2.classifier.linear.weight",
    "exits.3.final_expand_layer.conv.weight",
    "exits.4.classifier.linear.weight",
]


def labels_of(images, classes):
    """Label i is (7 i + 3) modulo the number of classes."""
    return [(7 * i + 3) % classes for i in range(images)]


def div8(value):
    """The nearest multiple of 8, at least 8 and at least nine tenths of the value."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


# Files.


def read_tensors(path):
    """The tensors of a safetensors file, in float64; integers as they are."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            kind = {"F32": "<f4", "I32": "<i4"}[entry["dtype"]]
            values = np.frombuffer(data[begin:end], kind).reshape(entry["shape"])
            tensors[name] = torch.from_numpy(values.astype("f8" if kind == "<f4" else "i8"))
    return tensors


def write_tensors(path, tensors):
    """Writes a safetensors file: floats as F32, integers as I32, in the order of their names."""
    header, parts, offset = {}, [], 0
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        dtype, kind = ("F32", "<f4") if tensor.is_floating_point() else ("I32", "<i4")
        part = tensor.contiguous().numpy().astype(kind).tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(part)]}
        parts.append(part)
        offset += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


# Networks.


def activate(x, activation):
    if activation == "relu":
        return F.relu(x)
    return x * F.relu6(x + 3) / 6


class Network:
    """A sub-network: logits of the exits that it is read at, from the super-network's tensors."""

    def __init__(self, tensors, width, arch, exits):
        self.tensors, self.arch, self.exits = tensors, arch, exits
        self.early, self.dense, self.parallel = arch["family"][0] == "E", "D" in arch["family"][3:], "P" in arch["family"]
        self.first = div8(16 * width)
        self.channels = [div8(channels * width) for channels, *_ in STAGES]
        self.statistics = {}

    def norm(self, x, name):
        """Normalises by this batch's mean and biased variance, with as many scales and shifts as there are channels."""
        count = x.shape[1]
        mean = x.mean((0, 2, 3))
        variance = ((x - mean.view(1, -1, 1, 1)) ** 2).mean((0, 2, 3))
        self.statistics[name] = mean.detach(), variance.detach()
        weight, bias = self.tensors[f"{name}.weight"][:count], self.tensors[f"{name}.bias"][:count]
        scale = weight / torch.sqrt(variance + 1e-5)
        return (x - mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)

    def pointwise(self, x, name, cout, stride=1):
        """A 1x1 convolution, of the first channels in and out."""
        return F.conv2d(x, self.tensors[f"{name}.weight"][:cout, : x.shape[1]], stride=stride)

    def filter(self, name, channels, kernel):
        """The depthwise filters of a layer: 5x5 is a linear map of the middle of 7x7, and 3x3 of the middle of that."""
        filters = self.tensors[f"{name}.conv.weight"][:channels]
        for size in (5, 3):
            if kernel <= size:
                matrix = self.tensors[f"{name}.{size + 2}to{size}_matrix"]
                middle = filters[:, :, 1:-1, 1:-1].reshape(channels, size * size)
                filters = (middle @ matrix.T).reshape(channels, 1, size, size)
        return filters

    def gates(self, x, name):
        """Squeeze-and-excitation's factors of the channels."""
        channels = x.shape[1]
        hidden = div8(channels // 4)
        get = lambda part: self.tensors[f"{name}.{part}"]
        x = x.mean((2, 3), keepdim=True)
        x = F.relu(F.conv2d(x, get("reduce.weight")[:hidden, :channels], get("reduce.bias")[:hidden]))
        x = F.conv2d(x, get("expand.weight")[:channels, :hidden], get("expand.bias")[:channels])
        return F.relu6(x + 3) / 6

    def mbconv(self, x, index, stride, activation, squeeze, cout):
        name, kernel = f"blocks.{index + 1}.conv", self.arch["ks"][index]
        mid = div8(x.shape[1] * self.arch["e"][index])
        y = self.pointwise(x, f"{name}.inverted_bottleneck.conv.conv", mid)
        y = activate(self.norm(y, f"{name}.inverted_bottleneck.bn.bn"), activation)
        filters = self.filter(f"{name}.depth_conv.conv", mid, kernel)
        y = F.conv2d(y, filters, stride=stride, padding=kernel // 2, groups=mid)
        y = activate(self.norm(y, f"{name}.depth_conv.bn.bn"), activation)
        if squeeze:
            y = y * self.gates(y, f"{name}.depth_conv.se.fc")
        y = self.norm(self.pointwise(y, f"{name}.point_linear.conv.conv", cout), f"{name}.point_linear.bn.bn")
        return y + x if index % DEPTH else y

    def layer(self, x, index):
        _, stride, activation, squeeze = STAGES[index // DEPTH]
        stride = 1 if index % DEPTH else stride
        cout = self.channels[index // DEPTH]
        mask = self.arch["nw"][index] if self.parallel else 4
        terms = []
        if mask & 4:
            terms.append(self.mbconv(x, index, stride, activation, squeeze, cout))
        name = f"blocks.{index + 1}.parallel"
        if mask & 2:
            y = self.pointwise(x, f"{name}.pointwise.conv", cout, stride)
            terms.append(activate(self.norm(y, f"{name}.pointwise.bn"), activation))
        if mask & 1:
            y = F.max_pool2d(x, stride, stride, ceil_mode=True) if stride > 1 else x
            if y.shape[1] != cout:
                y = self.pointwise(y, f"{name}.transform.conv", cout)
                y = y + self.tensors[f"{name}.transform.conv.bias"].view(1, -1, 1, 1)
            terms.append(activate(self.norm(y, f"{name}.transform.bn"), activation))
        return sum(terms)

    def head(self, x, exit):
        name = f"exits.{exit}." if self.early else ""
        tensor = lambda part: self.tensors[f"{name}{part}"]
        x = F.conv2d(x, tensor("final_expand_layer.conv.weight"))
        x = activate(self.norm(x, f"{name}final_expand_layer.bn"), "hswish").mean((2, 3), keepdim=True)
        x = activate(F.conv2d(x, tensor("feature_mix_layer.conv.weight")), "hswish").flatten(1)
        return x @ tensor("classifier.linear.weight").T + tensor("classifier.linear.bias")

    def logits(self, x):
        """Logits of each exit, by its number from 0."""
        x = activate(self.norm(F.conv2d(x, self.tensors["first_conv.conv.weight"], stride=2, padding=1), "first_conv.bn"), "hswish")
        name = "blocks.0.conv"
        y = F.conv2d(x, self.tensors[f"{name}.depth_conv.conv.weight"], padding=1, groups=self.first)
        y = F.relu(self.norm(y, f"{name}.depth_conv.bn"))
        x = x + self.norm(self.pointwise(y, f"{name}.point_linear.conv", self.first), f"{name}.point_linear.bn")
        logits = {}
        for stage in range(max(self.exits) + 1):
            outputs = []
            for position in range(self.arch["d"][stage]):
                y = self.layer(x, stage * DEPTH + position)
                # Outputs before the last but one are added; the last is inside, by the layer's shortcut.
                x = sum(outputs[:-1], y) if self.dense else y
                outputs.append(y)
            if stage in self.exits:
                logits[stage] = self.head(x, stage)
        return logits


def cross_entropy(logits, labels, smoothing):
    classes = logits.shape[1]
    target = (1 - smoothing) * F.one_hot(labels, classes).to(logits.dtype) + smoothing / classes
    return soft_cross_entropy(logits, target)


def soft_cross_entropy(logits, target):
    return -(target * F.log_softmax(logits, dim=1)).sum(1).mean()


def weighted(logits, weights):
    """The sum of the weighted logits of all exits, through which no gradient goes back."""
    return sum(weights[exit] * logits[exit] for exit in logits).detach()


def last_exit(arch):
    return arch["nd"] - 1 if arch["family"].startswith("EE") else len(STAGES) - 1


def uniform(family, r, kernel, expansion, depth, exit, branches):
    arch = {"family": family, "ks": [kernel] * LAYERS, "e": [expansion] * LAYERS, "d": [depth] * len(STAGES), "r": r}
    arch["nd"], arch["nw"] = exit, [branches] * LAYERS
    return arch


def largest(family, r):
    return uniform(family, r, 7, 6, 4, 5, 7)


def smallest(family, r):
    """The first exit, and of the branches of a layer the MBConv alone."""
    return uniform(family, r, 3, 3, 2, 1, 4)


def drawn(family, r, exit, draws):
    """A random network, of which the exit is given."""
    pick = lambda values: values[int(draws.random() * len(values))]
    return {
        "family": family,
        "ks": [pick([3, 5, 7]) for _ in range(LAYERS)],
        "e": [pick([3, 4, 6]) for _ in range(LAYERS)],
        "d": [pick([2, 3, 4]) for _ in STAGES],
        "r": r,
        "nd": exit,
        "nw": [pick(range(1, 8)) for _ in range(LAYERS)],
    }


class Files:
    """The folder's weights and images."""

    def __init__(self, folder):
        self.folder = folder
        self.weights = read_tensors(folder / f"{STEM}.safetensors")
        self.images = read_tensors(folder / f"{STEM}_inputs.safetensors")["calibration"]
        self.width = json.loads((folder / f"{STEM}_step.json").read_text())["width_mult"]
        self.classes = self.weights["classifier.linear.bias"].shape[0]

    def parameters(self):
        """Fresh leaves of the tensors that are trained."""
        trained = lambda name: not name.rsplit(".", 1)[-1].startswith("running_")
        return {name: tensor.clone().requires_grad_() for name, tensor in self.weights.items() if trained(name)}

    def batch(self, r):
        return self.images[:, :, :r, :r]


def gradients(parameters):
    return {name: tensor.grad for name, tensor in parameters.items() if tensor.grad is not None}


# The steps of another program.


def known_step(files, case, labels):
    """Loss, gradients, statistics and logits of a case of the steps that are there."""
    parameters, tensors = files.parameters(), {}
    joint, batch = case["loss_kind"] == "exits", files.batch(case["r"])
    exits = [exit - 1 for exit in case["exits"]] if joint else [last_exit(case)]
    network = Network(parameters, files.width, case, exits)
    logits = network.logits(batch)
    shares = case["exit_weights"] if joint else [1] * len(STAGES)
    loss = sum(shares[exit] * cross_entropy(logits[exit], labels, case["label_smoothing"]) for exit in exits)
    if case["loss_kind"] == "ens_kd":
        teacher = Network(parameters, files.width, largest(case["family"], case["r"]), range(len(STAGES)))
        summed = weighted(teacher.logits(batch), case["exit_weights"])
        tensors["teacher_logits"] = summed
        loss = loss + case["kd_ratio"] * soft_cross_entropy(logits[exits[0]], F.softmax(summed, dim=1))
    loss.backward()
    tensors |= {f"grad.{name}": tensor for name, tensor in gradients(parameters).items()}
    for name, (mean, variance) in network.statistics.items():
        tensors |= {f"batch_mean.{name}": mean, f"batch_var.{name}": variance}
    tensors |= {f"logits.{number}": logits[exit] for number, exit in enumerate(exits)}
    return {"loss": loss.item(), "grad_norm": norms(parameters)}, tensors


def norms(parameters):
    return {name: tensor.norm().item() for name, tensor in sorted(gradients(parameters).items())}


# The sandwich.


def sandwich_step(files, case, labels):
    """A case of this program, completed by what came out, and its tensors."""
    family, r, exit_weights, answer_weights, exits, seed = case
    draws = random.Random(seed)
    archs = [("largest", largest(family, r)), ("smallest", smallest(family, r))]
    archs += [("random", drawn(family, r, exit, draws)) for exit in exits]
    parameters, tensors, students = files.parameters(), {}, []
    early = family.startswith("EE")
    answers = None
    for number, (which, arch) in enumerate(archs):
        read = range(len(STAGES)) if early and which == "largest" else [last_exit(arch)]
        logits = Network(parameters, files.width, arch, read).logits(files.batch(r))
        if which == "largest":
            shares, voices = (exit_weights, answer_weights) if early else ([1] * len(STAGES),) * 2
            loss = sum(shares[exit] * cross_entropy(logits[exit], labels, SMOOTHING) for exit in read)
            answers = F.softmax(weighted(logits, voices), dim=1)
            tensors["answers"] = answers
        else:
            loss = soft_cross_entropy(logits[read[0]], answers)
        # Each adds to what is there.
        loss.backward()
        tensors |= {f"logits.{number}.{place}": logits[exit] for place, exit in enumerate(read)}
        shown = {key: arch[key] for key in ("ks", "e", "d", "r")}
        if "P" in family:
            shown["nw"] = arch["nw"]
        if early:
            shown |= {"nd": arch["nd"], "exits": [exit + 1 for exit in read]}
        students.append({"which": which, "learns_from": "labels" if which == "largest" else "answers"} | shown | {"loss": loss.item()})
    found = gradients(parameters)
    tensors |= {f"grad.{name}": found[name] for name in WHOLE if name in found}
    result = {"family": family, "r": r, "label_smoothing": SMOOTHING}
    if early:
        result |= {"exit_weights": exit_weights, "answer_weights": answer_weights}
    return result | {"students": students, "grad_norm": norms(parameters)}, tensors


def sandwich(files):
    """What both files hold."""
    labels = torch.tensor(labels_of(len(files.images), files.classes))
    tensors, cases = {"labels": labels}, []
    for number, case in enumerate(CASES):
        result, own = sandwich_step(files, case, labels)
        cases.append({"case": number} | result)
        tensors |= {f"case{number}.{name}": tensor for name, tensor in own.items()}
    about = {
        "made_by": "scripts/golden_sandwich_step.py, PyTorch's autograd",
        "width_mult": files.width,
        "n_classes": files.classes,
        "weights": f"{STEM}.safetensors",
        "batch": f"all {len(files.images)} calibration images of {STEM}_inputs, top-left r x r crop",
        "labels": "(7 i + 3) modulo n_classes",
        "losses": "largest: sum over exits of exit_weights x cross entropy with label_smoothing (one head: cross entropy); "
        "the others: mean over images of -sum answers x log softmax(logits) at their own exit",
        "answers": "softmax(sum over the largest network's exits of answer_weights x logits), without a gradient",
        "gradient": "the sum of the gradients of all four losses",
        "logits": "caseC.logits.S.E: student S at the E-th of the exits that it is read at",
        "precision": "computed in float64, stored as float32",
        "cases": cases,
    }
    return about, tensors


# Comparisons.


class Comparison:
    """The largest distances found, by kind, and whether one of them is too large."""

    def __init__(self):
        self.worst, self.failed = {}, False

    def add(self, kind, name, error, scale, nothing=0.0):
        """An error that may be a millionth of the scale, which may be rounding in place of nothing."""
        relative = 0.0 if max(error, scale) <= nothing else error / scale if scale else math.inf
        self.worst[kind] = max(self.worst.get(kind, 0.0), relative)
        if not relative <= TOLERANCE:
            self.failed = True
            print(f"  {kind} {name} is off by {relative:.2e} of {scale:.3e}")

    def norms(self, found, wanted):
        if found.keys() != wanted.keys():
            self.failed = True
            print(f"  other tensors have a gradient: {sorted(found.keys() ^ wanted.keys())}")
        # Rounding in float64 is not what the tolerance is about.
        nothing = NOTHING * max(wanted.values())
        for name in found.keys() & wanted.keys():
            self.add("norms", name, abs(found[name] - wanted[name]), wanted[name], nothing)

    def tensors(self, found, wanted, largest):
        """Every stored tensor, by the norm of the difference."""
        for name, tensor in wanted.items():
            kind = name.split(".", 1)[0]
            if name not in found or found[name].shape != tensor.shape:
                self.failed = True
                print(f"  there is no {name} of shape {list(tensor.shape)}")
                continue
            nothing = NOTHING * largest if kind == "grad" else 1e-12
            self.add(kind, name, (found[name] - tensor).norm().item(), tensor.norm().item(), nothing)

    def print(self, what):
        print(f"{what}: " + ", ".join(f"{kind} {error:.1e}" for kind, error in self.worst.items()))


def part(tensors, number):
    prefix = f"case{number}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_known(files):
    stored = read_tensors(files.folder / f"{STEM}_step.safetensors")
    comparison = Comparison()
    for case in json.loads((files.folder / f"{STEM}_step.json").read_text())["cases"]:
        comparison.worst = {}
        result, tensors = known_step(files, case, stored["labels"])
        comparison.add("loss", "", abs(result["loss"] - case["loss"]), case["loss"])
        comparison.norms(result["grad_norm"], case["grad_norm"])
        comparison.tensors(tensors, part(stored, case["case"]), max(case["grad_norm"].values()))
        comparison.print(f"{STEM}_step case {case['case']} ({case['family']}, {case['loss_kind']})")
    return not comparison.failed


def check_written(files, about, tensors):
    path = files.folder / f"{OUT}.json"
    if not path.exists():
        print(f"{path.name} is not there")
        return False
    written, stored = json.loads(path.read_text()), read_tensors(path.with_suffix(".safetensors"))
    comparison = Comparison()
    if len(written["cases"]) != len(about["cases"]) or not torch.equal(stored["labels"], tensors["labels"]):
        comparison.failed = True
        print("  other cases or labels")
    for found, wanted in zip(about["cases"], written["cases"]):
        comparison.worst = {}
        for ours, theirs in zip(found["students"], wanted["students"]):
            comparison.add("loss", ours["which"], abs(ours["loss"] - theirs["loss"]), theirs["loss"])
        comparison.norms(found["grad_norm"], wanted["grad_norm"])
        number, largest = found["case"], max(wanted["grad_norm"].values())
        comparison.tensors(part(tensors, number), part(stored, number), largest)
        comparison.print(f"{OUT} case {number} ({found['family']})")
    return not comparison.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = pathlib.Path(__file__).resolve().parent.parent / "tests/golden"
    parser.add_argument("--folder", type=pathlib.Path, default=default, help="of the golden files (default: tests/golden)")
    parser.add_argument("--check", action="store_true", help="write nothing, compare with the steps that are there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = Files(options.folder)
    if options.check:
        fine = check_known(files)
        fine = check_written(files, *sandwich(files)) and fine
        sys.exit(0 if fine else 1)
    about, tensors = sandwich(files)
    path = options.folder / f"{OUT}.json"
    path.write_text(json.dumps(about) + "\n")
    write_tensors(path.with_suffix(".safetensors"), tensors)
    for case in about["cases"]:
        losses = ", ".join(f"{student['which']} {student['loss']:.6f}" for student in case["students"])
        print(f"case {case['case']} ({case['family']}): {losses}; {len(case['grad_norm'])} gradients")
    print(f"{path}: {path.stat().st_size} bytes, tensors {path.with_suffix('.safetensors').stat().st_size}")


if __name__ == "__main__":
    main()
