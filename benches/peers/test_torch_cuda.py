#!/usr/bin/env python3
"""Checks that torch_cuda.py does natv2's work, on a CPU at a small size.

    python benches/peers/test_torch_cuda.py target/debug/natv2

The networks have natv2's parameters and multiply-accumulates; an extracted network computes with slices of the shared
weights; recalibrated statistics are those of the batches; and every command prints its figures.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import torch
from torch import nn

import torch_cuda as peer


def counted(network, resolution):
    """Parameters and multiply-accumulates of an image, from the shapes that the layers meet."""
    macs = 0

    def count(layer, _, output):
        nonlocal macs
        outputs = output.numel() if isinstance(layer, nn.Linear) else output[0].numel()
        macs += outputs * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    network(torch.zeros(1, 3, resolution, resolution))
    return sum(parameter.numel() for parameter in network.parameters()), macs


def costs_are_those_of_natv2(natv2):
    for width, arch in [(1.0, peer.middle(64)), (0.25, peer.drawn(3, 40)), (1.2, peer.drawn(7, 48))]:
        found = counted(peer.Network(arch, 200, width).eval(), arch["r"])
        text = json.dumps({**arch, "w": width})
        output = subprocess.run(
            [natv2, "arch", "cost", "--family", "SE_B", "--classes", "200", "--arch", text, "--json"],
            check=True, capture_output=True, text=True)
        wanted = json.loads(output.stdout)
        assert found == (wanted["params"], wanted["macs"]), (width, arch, found, wanted)


def options(**changes):
    small = dict(images=8, calibration_images=20, networks=2, chunk=8, repeats=1, width=0.25, resolution=32, classes=10)
    return argparse.Namespace(**{**small, **changes})


def an_extracted_network_has_slices_of_the_shared_weights():
    work = peer.Population(peer.Where("cpu"), options())
    arch = {**peer.drawn(1, 32), "ks": [3] * 20}
    with torch.inference_mode():
        network = work.extract(arch)
    first, shared = network.features[4].body, work.shared.features[4].body
    mid = first[0].out_channels
    assert torch.equal(first[0].weight, shared[0].weight[:mid])
    assert torch.equal(first[3].weight, shared[3].weight[:mid, :, 2:5, 2:5])
    head = network.features[-3]
    assert torch.equal(head.weight, work.shared.features[-3].weight)
    # A layer that the network lacks is skipped, not shifted: the second stage begins with its own first layer.
    second = network.features[4 + arch["d"][0]].body
    assert torch.equal(second[0].weight, work.shared.features[8].body[0].weight[: second[0].out_channels])


def recalibration_leaves_the_statistics_of_the_batches():
    work = peer.Population(peer.Where("cpu"), options(calibration_images=20))
    with torch.inference_mode():
        network = work.extract(peer.middle(32)).float()
        work.train = work.train.float()
        work.recalibrate(network, lambda net, batches: [net(batch) for batch in batches])
        found = network(work.train)
        # With one batch, what training mode normalises with: means and biased variances of that batch.
        wanted = network.train()(work.train)
    difference = (found - wanted).abs().max() / wanted.abs().max()
    assert difference < 1e-4, difference


def every_command_prints_its_figures():
    script = pathlib.Path(__file__).with_name("torch_cuda.py")
    for work, key in [("peaks", "bf16_teraflops"), ("mbconv", "eager_ms"), ("population", "eager_networks_per_second")]:
        output = subprocess.run([sys.executable, script, work, "--device", "cpu"], check=True, capture_output=True, text=True)
        lines = output.stdout.splitlines()
        assert len(lines) == 1 and json.loads(lines[0])[key] > 0, output.stdout


def main():
    costs_are_those_of_natv2(sys.argv[1])
    an_extracted_network_has_slices_of_the_shared_weights()
    recalibration_leaves_the_statistics_of_the_batches()
    every_command_prints_its_figures()
    print("torch_cuda.py does natv2's work")


if __name__ == "__main__":
    main()
