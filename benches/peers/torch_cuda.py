#!/usr/bin/env python3
"""What PyTorch and cuDNN make of natv2's work on the same card. Prints one line of JSON.

    torch_cuda.py peaks        the rate of a copy of 8 GB, and of a bf16 matrix product of 8192
    torch_cuda.py mbconv       the distinct MBConvs of a middle network, one by one
    torch_cuda.py population   sub-networks one after another, recalibrated as once-for-all does it

Everything is bf16 and channels-last, and runs twice: eager, and replayed as a CUDA graph. There is no
torch.compile: a search meets a new network every time, and compiling one takes longer than running it.

The super-network is the backbone of once-for-all's MobileNetV3 with random weights, written here from its
description, so that a machine with PyTorch alone is enough. An extracted sub-network is what once-for-all's
`get_active_subnet` gives: modules of its own whose weights are slices, copied for each network; that copy counts, as
it does there. Recalibration runs `--calibration-images` through the network in batches of 100 with the statistics of
each batch, averages means and biased variances, and only then measures.

`--device cpu` runs the same at a small size, without graphs: a check of the script and no figure of anything. MBConvs
come back with the natv2 name of their shape, so that a table can put both side by side.
"""

import argparse
import json
import random
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

STAGES = [  # channels, stride, h-swish, squeeze-and-excitation
    (24, 2, False, False),
    (40, 2, False, True),
    (80, 2, True, False),
    (112, 1, True, True),
    (160, 2, True, True),
]
BATCH = 100


def div8(value):
    """The nearest multiple of 8, at least 8, and not below nine tenths of the value."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def activation(wanted):
    return nn.Hardswish() if wanted else nn.ReLU()


def conv(cin, cout, kernel=1, stride=1, groups=1, bias=False):
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=bias)


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        hidden = div8(channels // 4)
        self.reduce, self.expand = conv(channels, hidden, bias=True), conv(hidden, channels, bias=True)

    def forward(self, x):
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * F.hardsigmoid(gate)


class MBConv(nn.Module):
    """1x1 expansion, depthwise filter, squeeze-and-excitation, 1x1 projection; a shortcut within a stage."""

    def __init__(self, cin, mid, cout, kernel, stride, swish, squeeze, shortcut):
        super().__init__()
        expansion = [conv(cin, mid), nn.BatchNorm2d(mid), activation(swish)] if mid else []
        mid = mid or cin
        self.body = nn.Sequential(
            *expansion,
            conv(mid, mid, kernel, stride, groups=mid),
            nn.BatchNorm2d(mid),
            activation(swish),
            *([SqueezeExcite(mid)] if squeeze else []),
            conv(mid, cout),
            nn.BatchNorm2d(cout),
        )
        self.shortcut = shortcut

    def forward(self, x):
        return x + self.body(x) if self.shortcut else self.body(x)


class Network(nn.Module):
    """A sub-network with modules of its own."""

    def __init__(self, arch, classes, width):
        super().__init__()
        stem = div8(16 * width)
        layers = [conv(3, stem, 3, 2), nn.BatchNorm2d(stem), nn.Hardswish()]
        layers.append(MBConv(stem, 0, stem, 3, 1, False, False, True))
        layers += [MBConv(*shape) for _, shape, _ in mbconvs(arch, width)]
        last, expand, mix = div8(160 * width), div8(960 * width), div8(1280 * width)
        self.features = nn.Sequential(*layers, conv(last, expand), nn.BatchNorm2d(expand), nn.Hardswish())
        self.mix = nn.Sequential(conv(expand, mix), nn.Hardswish())
        self.classifier = nn.Linear(mix, classes)

    def forward(self, x):
        return self.classifier(self.mix(self.features(x).mean((2, 3), keepdim=True)).flatten(1))


def mbconvs(arch, width):
    """(layer, constructor's arguments, side of the input) of each elastic MBConv of an architecture."""
    side, cin = (arch["r"] + 1) // 2, div8(16 * width)
    for stage, (channels, stride, swish, squeeze) in enumerate(STAGES):
        cout = div8(channels * width)
        for position in range(arch["d"][stage]):
            layer = 4 * stage + position
            step = stride if position == 0 else 1
            mid = div8(cin * arch["e"][layer])
            yield f"{stage + 1}.{position + 1}", (cin, mid, cout, arch["ks"][layer], step, swish, squeeze, position > 0), side
            side, cin = -(-side // step), cout


def middle(resolution):
    return {"r": resolution, "ks": [5] * 20, "e": [4] * 20, "d": [3] * 5}


def drawn(number, resolution):
    """A sub-network as a search may propose it, the same for the same number."""
    source = random.Random(number)
    pick = lambda choices, count: [source.choice(choices) for _ in range(count)]
    return {"r": resolution, "ks": pick([3, 5, 7], 20), "e": pick([3, 4, 6], 20), "d": pick([2, 3, 4], 5)}


class Where:
    """The device and how time is taken on it."""

    def __init__(self, name):
        self.device = torch.device(name)
        self.card = self.device.type == "cuda"

    def name(self):
        return torch.cuda.get_device_name(self.device) if self.card else "cpu"

    def wait(self):
        if self.card:
            torch.cuda.synchronize(self.device)

    def map(self, count, channels, side):
        x = torch.randn(count, channels, side, side, device=self.device, dtype=torch.bfloat16)
        return x.contiguous(memory_format=torch.channels_last)

    def module(self, module):
        """In bf16 and channels-last, but for batch norms, which are f32 as in PyTorch's mixed precision."""
        module = module.to(self.device, torch.bfloat16).to(memory_format=torch.channels_last).eval()
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.float()
        return module.requires_grad_(False)

    def milliseconds(self, run, repeats):
        """Median over repeats, each with the L2 cache overwritten before it, as natv2's kernels are timed."""
        for _ in range(3):
            run()
        self.wait()
        if not self.card:
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                run()
                times.append(1e3 * (time.perf_counter() - start))
            return sorted(times)[repeats // 2]
        scratch = torch.empty(256 << 20, dtype=torch.uint8, device=self.device)
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
        for start, end in events:
            scratch.zero_()
            start.record()
            run()
            end.record()
        self.wait()
        return sorted(start.elapsed_time(end) for start, end in events)[repeats // 2]

    def graph(self, run):
        """`run` as a CUDA graph; None on a CPU."""
        if not self.card:
            return None
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(2):
                run()
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph


def peaks(where, _):
    bytes_, side = (8 << 30, 8192) if where.card else (64 << 20, 512)
    x = torch.randint(0, 255, (bytes_ // 2,), dtype=torch.uint8, device=where.device)
    y = torch.empty_like(x)
    copied = where.milliseconds(lambda: y.copy_(x), 9)
    del x, y
    a, b = (torch.randn(side, side, device=where.device, dtype=torch.bfloat16) for _ in range(2))
    multiplied = where.milliseconds(lambda: a @ b, 9)
    return {
        "copy_gigabytes_per_second": bytes_ / copied / 1e6,
        "bf16_teraflops": 2 * side**3 / multiplied / 1e9,
    }


def mbconv(where, options):
    rows, seen = [], {}
    for layer, shape, side in mbconvs(middle(options.resolution), options.width):
        if (shape, side) in seen:
            seen[shape, side]["layers"].append(layer)
            continue
        block, x = where.module(MBConv(*shape)), where.map(options.images, shape[0], side)
        with torch.inference_mode():
            row = {
                "layers": [layer],
                "shape": dict(zip(("cin", "mid", "cout", "kernel", "stride", "swish", "squeeze", "shortcut"), shape)),
                "side": side,
                "eager_ms": where.milliseconds(lambda: block(x), options.repeats),
            }
            graph = where.graph(lambda: block(x))
            row["graph_ms"] = where.milliseconds(graph.replay, options.repeats) if graph else None
        seen[shape, side] = row
        rows.append(row)
    total = lambda key: sum(len(row["layers"]) * row[key] for row in rows) if rows[0][key] is not None else None
    return {"images": options.images, "eager_ms": total("eager_ms"), "graph_ms": total("graph_ms"), "rows": rows}


class Population:
    """Evaluates networks one after another: extract, recalibrate, measure."""

    def __init__(self, where, options):
        self.where, self.options = where, options
        largest = {"r": options.resolution, "ks": [7] * 20, "e": [6] * 20, "d": [4] * 5}
        self.shared = where.module(Network(largest, options.classes, options.width))
        # They live on the card, as natv2's do.
        self.test = where.map(options.images, 3, options.resolution)
        self.labels = torch.randint(0, options.classes, (options.images,), device=where.device)
        self.train = where.map(options.calibration_images, 3, options.resolution)

    def extract(self, arch):
        """A network whose weights are the leading slices of the largest one's."""
        network = self.where.module(Network(arch, self.options.classes, self.options.width))
        place = [0, 1, 2, 3] + [4 + 4 * stage + i for stage in range(5) for i in range(arch["d"][stage])]
        place += [4 + 20, 4 + 21, 4 + 22]
        pairs = [(module, self.shared.features[index]) for module, index in zip(network.features, place)]
        pairs += [(network.mix, self.shared.mix), (network.classifier, self.shared.classifier)]
        for small, large in pairs:
            for own, theirs in zip(small.parameters(), large.parameters()):
                index = [slice(0, size) for size in own.shape]
                if own.dim() == 4:  # the middle of a larger filter
                    border = (theirs.shape[-1] - own.shape[-1]) // 2
                    index[2:] = [slice(border, border + own.shape[-1])] * 2
                own.copy_(theirs[tuple(index)])
        return network

    def recalibrate(self, network, forward_of):
        """Each batch norm gets the average over batches of means and biased variances."""
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        size = min(BATCH, len(self.train))
        count = len(self.train) // size
        sums = [[torch.zeros_like(norm.running_mean, dtype=torch.float32) for _ in range(2)] for norm in norms]

        def hook(norm, inputs):
            x = inputs[0].float()
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            total = sums[norms.index(norm)]
            total[0].add_(mean)
            total[1].add_(variance)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)

        handles = [norm.register_forward_pre_hook(hook) for norm in norms]
        forward_of(network, self.train[: size * count].split(size))
        for handle in handles:
            handle.remove()
        for norm, (mean, variance) in zip(norms, sums):
            norm.running_mean.copy_(mean / count)
            norm.running_var.copy_(variance / count)

    def eager(self, arch):
        network = self.extract(arch)
        self.recalibrate(network, lambda net, batches: [net(batch) for batch in batches])
        correct = torch.zeros((), device=self.where.device)
        for images, labels in zip(self.test.split(self.options.chunk), self.labels.split(self.options.chunk)):
            correct += (network(images).argmax(1) == labels).sum()
        return correct.item()

    def graphs(self, arch):
        """The same with a graph of a batch of either kind, made for this network: making it counts."""
        network = self.extract(arch)
        chunk = min(self.options.chunk, len(self.test))
        images, labels = self.test[:chunk].clone(), self.labels[:chunk].clone()

        def batches(net, all_of_them):
            x = all_of_them[0].clone()
            graph = torch.cuda.CUDAGraph()
            # A capture runs nothing: the statistics are added up by the replays alone.
            with torch.cuda.graph(graph):
                net(x)
            for batch in all_of_them:
                x.copy_(batch)
                graph.replay()

        self.recalibrate(network, batches)
        correct = torch.zeros((), device=self.where.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            correct += (network(images).argmax(1) == labels).sum()
        whole = len(self.test) // chunk * chunk
        for start in range(0, whole, chunk):
            images.copy_(self.test[start : start + chunk])
            labels.copy_(self.labels[start : start + chunk])
            graph.replay()
        if whole < len(self.test):
            correct += (network(self.test[whole:]).argmax(1) == self.labels[whole:]).sum()
        return correct.item()


def population(where, options):
    work = Population(where, options)
    archs = [drawn(number, options.resolution) for number in range(options.networks)]
    out = {"networks": len(archs), "images": options.images, "calibration_images": options.calibration_images,
           "chunk": options.chunk, "width": options.width, "resolution": options.resolution}
    with torch.inference_mode():
        for name, evaluate in [("eager", work.eager)] + ([("graph", work.graphs)] if where.card else []):
            first = evaluate(archs[0])  # first-use costs
            where.wait()
            start = time.perf_counter()
            correct = [evaluate(arch) for arch in archs]
            where.wait()
            seconds = time.perf_counter() - start
            if abs(correct[0] - first) > options.images / 50:
                sys.exit(f"{name}: the same network gave {first} and then {correct[0]} correct answers")
            out[f"{name}_seconds"], out[f"{name}_networks_per_second"] = seconds, len(archs) / seconds
            out[f"{name}_correct"] = correct
    if where.card and max(abs(a - b) for a, b in zip(out["eager_correct"], out["graph_correct"])) > options.images / 50:
        sys.exit(f"eager and graph disagree: {out['eager_correct']} and {out['graph_correct']}")
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=["peaks", "mbconv", "population"])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu for a small check (default %(default)s)")
    parser.add_argument("--images", type=int, help="default: 1,000 (mbconv), 10,000 (population); 4 and 40 on a CPU")
    parser.add_argument("--calibration-images", type=int, help="default: 500; 20 on a CPU")
    parser.add_argument("--networks", type=int, help="default: 20; 2 on a CPU")
    parser.add_argument("--chunk", type=int, help="images of a forward pass (default: 1,000; 20 on a CPU)")
    parser.add_argument("--repeats", type=int, help="runs of which the median counts (default: 21; 3 on a CPU)")
    parser.add_argument("--width", type=float, help="width multiplier (default: 1.0; 0.25 on a CPU)")
    parser.add_argument("--resolution", type=int, help="pixels (default: 64; 32 on a CPU)")
    parser.add_argument("--classes", type=int, default=200)
    options = parser.parse_args()
    where = Where(options.device)
    if where.card and not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA card: install a build with CUDA, or try --device cpu")
    defaults = {  # on a card, on a CPU
        "images": (10_000 if options.work == "population" else 1_000, 40 if options.work == "population" else 4),
        "calibration_images": (500, 20),
        "networks": (20, 2),
        "chunk": (1_000, 20),
        "repeats": (21, 3),
        "width": (1.0, 0.25),
        "resolution": (64, 32),
    }
    for name, (card, cpu) in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, card if where.card else cpu)
    torch.manual_seed(0)
    # Trying algorithms out pays for a shape that comes again, which networks of a search do not.
    torch.backends.cudnn.benchmark = options.work == "mbconv"
    found = {"peaks": peaks, "mbconv": mbconv, "population": population}[options.work](where, options)
    print(json.dumps({"peer": "pytorch", "torch": torch.__version__, "device": where.name(), "work": options.work, **found}))


if __name__ == "__main__":
    main()
