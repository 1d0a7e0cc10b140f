#!/usr/bin/env python3
"""Test of ofa_to_safetensors.py on a network of the once-for-all package itself.

    pip install -r benches/peers/requirements.txt
    python scripts/test_ofa_to_safetensors.py
"""

import json
import pathlib
import re
import sys
import tempfile
import unittest

import torch
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import ofa_to_safetensors as script  # noqa: E402


def network(width=0.25, classes=10):
    torch.manual_seed(1)
    net = OFAMobileNetV3(
        n_classes=classes, width_mult=width, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    )
    # Statistics as training leaves them, so that a mix-up of tensors of one shape shows.
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
    return net


class Convert(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.net = network().eval()
        self.state = self.net.state_dict()

    def run_on(self, content, *flags):
        source, out = (pathlib.Path(self.folder.name) / name for name in ("net.pth", "net.safetensors"))
        torch.save(content, source)
        code = script.main([str(source), str(out), *flags])
        return code, out

    def same_logits(self, out):
        other = network().eval()
        torch.nn.init.zeros_(other.classifier.linear.weight)
        # Module's own loader: the package's renames, which would hide a wrong name.
        missing, unexpected = torch.nn.Module.load_state_dict(other, load_file(out), strict=False)
        self.assertTrue(all(name.endswith("num_batches_tracked") for name in missing), missing)
        self.assertEqual(unexpected, [])
        images = torch.randn(2, 3, 48, 48)
        for ks, e, d in [(7, 6, 4), (3, 3, 2), (5, 4, 3)]:
            for net in (self.net, other):
                net.set_active_subnet(ks=ks, e=e, d=d)
            with torch.no_grad():
                self.assertTrue(torch.equal(self.net(images), other(images)))

    def test_a_state_dict_of_today(self):
        code, out = self.run_on(self.state)
        self.assertEqual(code, 0)
        tensors = load_file(out)
        kept = {name for name in self.state if not name.endswith("num_batches_tracked")}
        self.assertEqual(set(tensors), kept)
        for name in kept:
            self.assertEqual(tensors[name].dtype, torch.float32)
            self.assertTrue(torch.equal(tensors[name], self.state[name]), name)
        self.same_logits(out)

    def test_a_wrapped_parallel_checkpoint_with_the_names_of_older_releases(self):
        def old(name):
            name = re.sub(r"^(blocks\.\d+)\.conv\.", r"\1.mobile_inverted_conv.", name)
            name = name.replace("classifier.linear.", "classifier.linear.linear.")
            return "module." + name.replace(".bn.bn.", ".bn.")

        code, out = self.run_on({"epoch": 3, "state_dict": {old(name): t for name, t in self.state.items()}})
        self.assertEqual(code, 0)
        self.same_logits(out)

    def test_other_float_types_become_float32(self):
        doubles = {name: t.double() if t.is_floating_point() else t for name, t in self.state.items()}
        code, out = self.run_on(doubles)
        self.assertEqual(code, 0)
        self.same_logits(out)
        halves = {name: t.half() if t.is_floating_point() else t for name, t in self.state.items()}
        code, out = self.run_on(halves)
        self.assertEqual(code, 0)
        name = "blocks.20.conv.point_linear.conv.conv.weight"
        self.assertTrue(torch.equal(load_file(out)[name], self.state[name].half().float()))

    def test_the_card_says_what_the_tensors_tell(self):
        code, out = self.run_on(self.state, "--resolutions", "32,48", "--data", "cifar10")
        self.assertEqual(code, 0)
        card = json.loads(out.with_suffix(".card.json").read_text())
        self.assertEqual((card["family"], card["width"], card["classes"]), ("SE_B", 0.25, 10))
        self.assertEqual((card["resolutions"], card["data"], card["resize"]), ([32, 48], "cifar10", "bilinear"))
        self.assertEqual(len(card["class_names"]), 10)
        for width in (1.0, 1.2):
            tensors = {"feature_mix_layer.conv.weight": torch.empty(int(1280 * width), 1, 1, 1),
                       "classifier.linear.weight": torch.empty(1000, 1)}
            self.assertEqual(script.card_of(tensors, [224], None, "")["width"], width)

    def test_what_does_not_fit_is_refused_by_name_and_writes_nothing(self):
        without = dict(self.state)
        del without["blocks.7.conv.depth_conv.conv.5to3_matrix"]
        bad = dict(self.state)
        bad["first_conv.bn.bias"] = bad["first_conv.bn.bias"] * float("nan")
        extra = dict(self.state)
        extra["blocks.21.conv.point_linear.conv.conv.weight"] = torch.zeros(1)
        for content, message in [
            (without, "blocks.7.conv.depth_conv.conv.5to3_matrix: missing"),
            (bad, "first_conv.bn.bias: holds NaN"),
            (extra, "blocks.21.conv.point_linear.conv.conv.weight: not a tensor"),
            ({"a": "text"}, "a: not a floating-point tensor"),
            ({"a": 1.5}, "a: not a floating-point tensor"),
        ]:
            with self.assertRaisesRegex(script.NotAnOfaNetwork, re.escape(message)):
                script.convert(content)
            code, out = self.run_on(content)
            self.assertEqual(code, 1)
            self.assertEqual((out.exists(), out.with_suffix(".card.json").exists()), (False, False))


if __name__ == "__main__":
    unittest.main()
