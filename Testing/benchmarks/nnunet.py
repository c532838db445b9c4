"""nnU-Net's predictor against the engine, on networks of nnU-Net's usual size with random weights.

`python Testing/benchmarks/nnunet.py PYTHON [--repeats 3]`: PYTHON is the interpreter of an environment of its own with
nnunetv2, for example made by `python -m venv nnu; nnu/bin/pip install torch==2.13.0 nnunetv2`. Both run in turns, on
the CPU with the same number of threads, on 256 x 256 x 128 voxels at 1 mm, two phases. nnU-Net: its predictor's
defaults with mirroring off, over the whole field of view. The engine: the breasts' box.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
from monai.networks.nets import DynUNet
from network import CPU, say

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.machine import worker_threads
from BreastTumorSegLib.networks.bundle import Bundle, load_bundle
from BreastTumorSegLib.networks.resunet import ResUNetConfig
from BreastTumorSegLib.segmentation import engine
from BreastTumorSegLib.segmentation.inference import limit_threads

SHAPE = (128, 256, 256)
BOX = (slice(9, 119), slice(10, 120), slice(8, 248))
EVERYWHERE = torch.ones(SHAPE, dtype=torch.bool)
WIDTHS = (32, 64, 128, 256, 320, 320)

PEER = """
import json, sys, time, torch
from types import SimpleNamespace
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

torch.set_num_threads(int(sys.argv[1]))
widths = (32, 64, 128, 256, 320, 320)
network = PlainConvUNet(2, 6, widths, torch.nn.Conv3d, 3, [1, 2, 2, 2, 2, 2], 2, 2, 2, conv_bias=True,
    norm_op=torch.nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=torch.nn.LeakyReLU,
    nonlin_kwargs={"inplace": True}).eval()
predictor = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"),
    allow_tqdm=False)
predictor.network = network
predictor.allowed_mirroring_axes = None
predictor.configuration_manager = SimpleNamespace(patch_size=(128, 128, 128))
predictor.label_manager = SimpleNamespace(num_segmentation_heads=2)
image = torch.randn(2, 128, 256, 256)
for line in sys.stdin:
    start = time.perf_counter()
    predictor.predict_sliding_window_return_logits(image)
    seconds, size = time.perf_counter() - start, sum(p.numel() for p in network.parameters())
    print(json.dumps({"seconds": seconds, "parameters": size}), flush=True)
"""


def our_bundle() -> Bundle:
    """A network of the same size in the engine."""
    torch.manual_seed(0)
    network = DynUNet(
        spatial_dims=3,
        in_channels=2,
        out_channels=1,
        kernel_size=[3] * 6,
        strides=[1, 2, 2, 2, 2, 2],
        upsample_kernel_size=[2] * 5,
        filters=WIDTHS,
        norm_name=("INSTANCE", {"affine": True}),
    ).eval()
    config = ResUNetConfig(in_channels=2, out_channels=1, channels=WIDTHS, strides=(2, 2, 2, 2, 2))
    description = load_bundle("tumor-resunet", "tumor").description.model_copy(
        update={"name": "dynunet", "network": config, "spacing_mm": 1.0, "bfloat16_dice_change": 0.0}
    )
    return Bundle(description, "random-dynunet", network)


def our_seconds(bundle: Bundle, image: torch.Tensor) -> float:
    """One run of the engine."""
    start = time.perf_counter()
    engine.Engine(bundle, CPU, Events()).predict(image[(slice(None), *BOX)], EVERYWHERE[BOX])
    return time.perf_counter() - start


def main() -> None:
    """Run both in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    limit_threads()
    bundle, image = our_bundle(), torch.randn(2, *SHAPE)
    our_seconds(bundle, image)  # converts the network, once
    command = [arguments.python, "-c", PEER, str(worker_threads())]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ours, theirs = [], []
    for _run in range(arguments.repeats):
        peer.stdin.write("go\n")
        peer.stdin.flush()
        theirs.append(json.loads(next(line for line in peer.stdout if line.startswith("{"))))  # it prints more
        ours.append(our_seconds(bundle, image))
    peer.stdin.close()
    peer.wait()
    their_seconds, our_median = statistics.median(run["seconds"] for run in theirs), statistics.median(ours)
    size = sum(p.numel() for p in bundle.network.parameters())
    say(f"| 256 x 256 x 128 at 1 mm, median of {arguments.repeats} | parameters | seconds |\n|---|---|---|")
    peer_size = theirs[0]["parameters"] / 1e6
    say(f"| nnU-Net v2 predictor, no mirroring, whole field of view | {peer_size:.1f} M | {their_seconds:.1f} |")
    say(f"| engine, breasts' box | {size / 1e6:.1f} M | {our_median:.2f} |")
    say(f"\n{their_seconds / our_median:.1f} times faster.")


if __name__ == "__main__":
    sys.exit(main())
