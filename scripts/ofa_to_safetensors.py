#!/usr/bin/env python3
"""Turn an OFA MobileNetV3 super-network from a PyTorch `state_dict` into safetensors.

The once-for-all project (H. Cai et al., "Once-for-All: Train One Network and Specialize it for
Efficient Deployment", ICLR 2020) releases its weights as PyTorch pickles, for example
ofa_mbv3_d234_e346_k357_w1.0. natv2 reads safetensors with the names that the current
once-for-all package gives the tensors.

    pip install torch safetensors
    python scripts/ofa_to_safetensors.py ofa_mbv3_d234_e346_k357_w1.0 ofa_w1.0.safetensors

reads a `state_dict` or a checkpoint that holds one under "state_dict", and

- strips `module.` in front of names (nn.DataParallel);
- brings names of older releases to today's (`mobile_inverted_conv` to `conv`, and the single or
  doubled `.conv.`, `.bn.`, `.linear.` that the package's own loader accepts);
- drops `num_batches_tracked`, turns float64, float16 and bfloat16 into float32;
- refuses what is not such a network, names the first tensor that does not fit, writes nothing then;
- writes a card beside the file (OUT.card.json without .safetensors) as a skeleton: check its
  class names, data, resolutions, mean and std before you rely on them.

The pickle is loaded with weights_only=True, so it cannot run code.
"""

import argparse
import json
import os
import re
import sys

import torch
from safetensors.torch import save_file

DYNAMIC_BLOCKS = 20
STATISTICS = ("weight", "bias", "running_mean", "running_var")


class NotAnOfaNetwork(Exception):
    pass


def canonical_name(name: str) -> str:
    """The name that the current once-for-all package gives the tensor."""
    name = re.sub(r"^(module\.)+", "", name).replace(".mobile_inverted_conv.", ".conv.")
    block = re.match(r"blocks\.(\d+)\.", name)
    if block and int(block[1]) > 0:
        # Elastic layers wrap the plain ones, so their last names are doubled.
        name = re.sub(r"\.(inverted_bottleneck|depth_conv|point_linear)\.conv\.weight$", r".\1.conv.conv.weight", name)
        return re.sub(r"\.(inverted_bottleneck|depth_conv|point_linear)\.bn\.(\w+)$", r".\1.bn.bn.\2", name)
    name = re.sub(r"\.conv\.conv\.weight$", ".conv.weight", name)
    name = re.sub(r"\.bn\.bn\.(\w+)$", r".bn.\1", name)
    return re.sub(r"\.linear\.linear\.(\w+)$", r".linear.\1", name)


def expected_names(se_blocks: set) -> list:
    """All tensors of the network, in order; `se_blocks` are the blocks with squeeze-and-excitation."""

    def layer(prefix, doubled=False):
        again = "{0}.{0}" if doubled else "{0}"
        yield f"{prefix}.{again.format('conv')}.weight"
        for statistic in STATISTICS:
            yield f"{prefix}.{again.format('bn')}.{statistic}"

    names = list(layer("first_conv"))
    names += [*layer("blocks.0.conv.depth_conv"), *layer("blocks.0.conv.point_linear")]
    for n in range(1, DYNAMIC_BLOCKS + 1):
        prefix = f"blocks.{n}.conv"
        names += [*layer(f"{prefix}.inverted_bottleneck", True), *layer(f"{prefix}.depth_conv", True)]
        names += [f"{prefix}.depth_conv.conv.{matrix}_matrix" for matrix in ("7to5", "5to3")]
        if n in se_blocks:
            names += [f"{prefix}.depth_conv.se.fc.{half}.{part}" for half in ("reduce", "expand") for part in ("weight", "bias")]
        names += layer(f"{prefix}.point_linear", True)
    names += [*layer("final_expand_layer"), "feature_mix_layer.conv.weight"]
    return names + ["classifier.linear.weight", "classifier.linear.bias"]


def convert(state_dict: dict) -> dict:
    """The tensors under today's names, as contiguous float32."""
    tensors = {}
    for old_name, tensor in state_dict.items():
        if old_name.endswith("num_batches_tracked"):
            continue
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            raise NotAnOfaNetwork(f"{old_name}: not a floating-point tensor; pass a state_dict of weights")
        name = canonical_name(old_name)
        if name in tensors:
            raise NotAnOfaNetwork(f"{old_name}: a second tensor for {name}")
        if not torch.isfinite(tensor).all():
            raise NotAnOfaNetwork(f"{old_name}: holds NaN or infinity")
        # A clone, because safetensors refuses tensors that share memory.
        tensors[name] = tensor.detach().to("cpu", torch.float32).contiguous().clone()
    # Stages 2, 4 and 5 of five have squeeze-and-excitation, four blocks each.
    expected = expected_names({*range(5, 9), *range(13, 21)})
    for name in expected:
        if name not in tensors:
            raise NotAnOfaNetwork(f"{name}: missing; only elastic OFA MobileNetV3 super-networks (d 2-4, e 3-6, k 3-7) convert")
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise NotAnOfaNetwork(f"{unknown[0]}: not a tensor of an OFA MobileNetV3 super-network")
    return {name: tensors[name] for name in expected}


def card_of(tensors: dict, resolutions: list, data: str | None, trained: str) -> dict:
    """A skeleton that says what the tensors tell, and ImageNet's settings for the rest."""
    classes = tensors["classifier.linear.weight"].shape[0]
    return {
        "family": "SE_B",
        # feature_mix_layer has 1280 times the width, rounded to a multiple of 8.
        "width": round(tensors["feature_mix_layer.conv.weight"].shape[0] / 1280, 2),
        "classes": classes,
        "class_names": [str(label) for label in range(classes)],
        **({"data": data} if data else {}),
        "resolutions": resolutions,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "resize": "bilinear",
        "calibration_images": 2000,
        "trained": trained,
    }


def load(path: str) -> dict:
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not loaded:
        raise NotAnOfaNetwork("holds neither a state_dict nor a dictionary with one under `state_dict`")
    return loaded


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", help="a .pth file")
    parser.add_argument("output", help="the safetensors file to write")
    parser.add_argument("--resolutions", default="128,160,192,224", help="for the card (default %(default)s)")
    parser.add_argument("--data", help="for the card: the data set that the network classifies")
    options = parser.parse_args(arguments)
    try:
        resolutions = [int(r) for r in options.resolutions.split(",")]
    except ValueError:
        parser.error(f"--resolutions {options.resolutions}: give whole numbers, as in 128,160,192,224")
    try:
        tensors = convert(load(options.input))
    except Exception as error:  # torch.load raises many kinds; every one means: not this file.
        print(f"{options.input}: {error}", file=sys.stderr)
        return 1
    card_path = re.sub(r"\.safetensors$", "", options.output) + ".card.json"
    trained = f"converted from {os.path.basename(options.input)} of the once-for-all project"
    card = card_of(tensors, resolutions, options.data, trained)
    # The card first: a card without weights is noticed, weights with an old card might not be.
    with open(card_path, "w") as file:
        json.dump(card, file, indent=1)
        file.write("\n")
    save_file(tensors, options.output)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    print(f"{options.output}: {len(tensors)} tensors, {parameters} numbers, width {card['width']}, {card['classes']} classes")
    print(f"{card_path}: check class_names, data, resolutions, mean and std")
    return 0


if __name__ == "__main__":
    sys.exit(main())
