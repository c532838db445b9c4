"""The engine: the whole and windows give the same, candidates, fallbacks, devices."""

import threading
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from BreastTumorSegLib.core.errors import Cancelled, InputError, OutOfMemoryError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription, load_bundle
from BreastTumorSegLib.networks.inputs import bounding_box, normalised, pad_to_multiple
from BreastTumorSegLib.networks.resunet import ResUNetConfig, resunet
from BreastTumorSegLib.phantom.simulate import simulate_exam
from BreastTumorSegLib.segmentation import engine, inference
from BreastTumorSegLib.segmentation.engine import NEVER, Engine, EngineOptions, shrunk
from BreastTumorSegLib.segmentation.fallbacks import Plan, step_down
from BreastTumorSegLib.segmentation.inference import choose_device, limit_threads
from BreastTumorSegLib.segmentation.memory import bytes_per_voxel
from BreastTumorSegLib.segmentation.normalisation import ExamNetwork, feature_count
from BreastTumorSegLib.segmentation.openvino_models import openvino
from BreastTumorSegLib.segmentation.runtimes import OpenVinoRuntime, TorchRuntime, uses_bfloat16

CPU, GPU = torch.device("cpu"), torch.device("cuda")
needs_openvino = pytest.mark.skipif(openvino() is None, reason="OpenVINO is not installed")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("BREAST_TUMOR_SEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


SHIPPED = {"breast": "breast-unet", "tumor": "tumor-resunet"}
"""Networks whose instance normalisation windows must keep; those that take times are in `test_phases_runtime`."""


class Pointwise(nn.Module):
    """Logit = the first phase + 1, whatever is around."""

    def forward(self, image, statistics=None):
        return image[:, :1] + 1


def bundle_of(network, spacing=2.0, channels=1, sha256="0" * 64):
    config = ResUNetConfig(in_channels=channels, out_channels=1, channels=(4, 8, 8), strides=(2, 2))
    phases = ("pre", "first_post")[:channels]
    description = ModelDescription(
        name="tiny", task="tumor", version="1", network=config, phases=phases, spacing_mm=spacing
    )
    return Bundle(description, sha256, network)


class Recorder:
    """A runtime that notes what went through a pointwise network, and lacks memory above given sizes."""

    def __init__(self, device=CPU, most_voxels=None, most_windows=None, fails_with=None):
        self.device, self.calls = device, []
        self._most_voxels, self._most_windows = most_voxels, most_windows
        self._error = fails_with or torch.cuda.OutOfMemoryError("CUDA out of memory.")

    def logits(self, images, statistics, events):
        self.calls.append(tuple(images.shape))
        voxels = images[0, 0].numel()
        if self._most_voxels is not None and voxels > self._most_voxels:
            raise self._error
        if self._most_windows is not None and len(images) > self._most_windows:
            raise self._error
        return images[:, :1] + 1

    def measure(self, image, events):
        return image[:, :1] + 1, torch.zeros(2, 0)


def everywhere(image):
    return torch.ones(image.shape[1:], dtype=torch.bool)


def test_a_volume_goes_through_in_one_piece_padded_and_cut_back():
    runtime, image = Recorder(), torch.rand(2, 5, 9, 6)
    answer = Engine(bundle_of(None, channels=2), CPU, Events(), runtime_of=lambda *_: runtime).predict(
        image, everywhere(image)
    )
    assert torch.equal(answer, image[:1] + 1)
    assert runtime.calls == [(1, 2, 8, 12, 8)]


def test_mirroring_is_the_mean_of_eight_passes():
    runtime, image = Recorder(), torch.rand(1, 8, 8, 8)
    options = EngineOptions(mirror=True)
    answer = Engine(bundle_of(None), CPU, Events(), options, lambda *_: runtime).predict(image, everywhere(image))
    assert len(runtime.calls) == 8
    assert torch.allclose(answer, image + 1)


@pytest.mark.parametrize("runtime_of", [lambda bundle, _: TorchRuntime(bundle, CPU), None], ids=["torch", "default"])
def test_a_tiny_volume_goes_through_a_real_network(runtime_of):
    network = resunet(ResUNetConfig(in_channels=1, out_channels=1, channels=(4, 8, 8), strides=(2, 2))).eval()
    image = torch.rand(1, 1, 2, 3)
    with torch.no_grad():
        expected = network(pad_to_multiple(image, 4)[None])[0, :, :1, :2, :3]
    arguments = {"runtime_of": runtime_of} if runtime_of else {}
    answer = Engine(bundle_of(network, sha256="tiny"), CPU, Events(), **arguments).predict(image, everywhere(image))
    assert torch.allclose(answer, expected, atol=1e-3)


@pytest.fixture(scope="module")
def inputs():
    """What each shipped network sees of a simulated exam: (C, Z, Y, X), and where the breasts are."""
    found = {}
    for task in ("breast", "tumor"):
        description = load_bundle(SHIPPED[task], task).description
        exam = simulate_exam("DUKE", 100, description.spacing_mm, phases=2)
        box = bounding_box(exam.breast > 0, 5) if task == "tumor" else (slice(None),) * 3
        image = normalised(exam.data[: len(description.phases)][(slice(None), *box)], description.normalisation)
        found[task] = image, exam.breast[box] > 0
    return found


@pytest.mark.parametrize("task", ["breast", "tumor"])
def test_frozen_statistics_change_nothing(task, inputs):
    bundle = load_bundle(SHIPPED[task], task)
    runtime = TorchRuntime(bundle, CPU)
    image = inputs[task][0][None, :, :64, :64, :64]
    with torch.inference_mode():
        plain = bundle.network(image)
    logits, statistics = runtime.measure(image, Events())
    assert statistics.shape == (2, feature_count(bundle.network))
    assert torch.equal(logits, plain)
    assert torch.equal(runtime.logits(image, None, Events()), plain)
    assert (runtime.logits(image, statistics, Events()) - plain).abs().max() < 1e-3
    assert (runtime.logits(image, statistics, Events()).sigmoid() - plain.sigmoid()).abs().max() < 1e-4


def test_the_statistics_are_mean_and_variance():
    network = nn.Sequential(nn.InstanceNorm3d(1), nn.InstanceNorm3d(1))
    image = torch.tensor([1.0, 3.0, 1.0, 3.0]).view(1, 1, 1, 2, 2)
    _, statistics = ExamNetwork(network).measure(image)
    assert statistics.flatten().tolist() == pytest.approx([2, 0, 1, 1], abs=1e-4)
    # Mean 1 and variance 4 instead: (3 - 1) / 2, then the second one's (1 - 0) / 1.
    given = torch.tensor([[1.0, 0.0], [4.0, 1.0]])
    assert ExamNetwork(network)(image, given).flatten().tolist() == pytest.approx([0, 1, 0, 1], abs=1e-4)


def test_affine_normalisation_keeps_its_weights():
    norm = nn.InstanceNorm3d(2, affine=True)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    image = torch.randn(1, 2, 4, 4, 4)
    network = ExamNetwork(norm)
    expected, statistics = network.measure(image)
    assert torch.equal(expected, norm(image))
    assert torch.allclose(network(image, statistics), expected, atol=1e-5)


def tiled_and_whole(bundle, image, wanted, edge, monkeypatch):
    """Logits (Z, Y, X) in windows with the statistics of the whole, and in one pass."""
    job = Engine(bundle, CPU, Events(), runtime_of=TorchRuntime)
    whole = job.predict(image, wanted)[0]
    monkeypatch.setattr(Engine, "_first_plan", lambda *_: Plan(CPU, edge))
    monkeypatch.setattr(Engine, "_reference_scale", lambda *_: 1.0)
    return job.predict(image, wanted)[0], whole


@pytest.mark.parametrize("task", ["breast", "tumor"])
def test_windows_give_the_same_answer_as_the_whole(task, inputs, monkeypatch):
    """On the shipped networks. They see 62 voxels far at most, so a halo of 64 leaves rounding alone."""
    bundle, image = load_bundle(SHIPPED[task], task), inputs[task][0]
    part = image[:, 16:40, 16:48]
    strip = torch.cat([part, part.flip(-1), part], -1)[..., :232]
    monkeypatch.setattr(engine, "HALO_SHARE", 0.4)
    tiled, whole = tiled_and_whole(bundle, strip, everywhere(strip), 160, monkeypatch)
    assert (tiled - whole).abs().max() < 1e-2  # of logits up to 30


def test_the_usual_halo_is_deep_enough_for_tumours(inputs, monkeypatch):
    bundle, (image, wanted) = load_bundle(SHIPPED["tumor"], "tumor"), inputs["tumor"]
    tiled, whole = tiled_and_whole(bundle, image, wanted, 64, monkeypatch)
    assert (tiled[~wanted] == NEVER).all()
    first, second = (bundle.description.probability(each) >= bundle.description.threshold for each in (tiled, whole))
    assert 2 * (first & second & wanted).sum() >= 0.99 * ((first & wanted).sum() + (second & wanted).sum())


def test_where_nothing_is_wanted_no_window_goes_through(monkeypatch):
    runtime, image = Recorder(), torch.rand(1, 64, 64, 128)
    wanted = torch.zeros(image.shape[1:], dtype=torch.bool)
    wanted[32, 32, 10] = True
    monkeypatch.setattr(Engine, "_first_plan", lambda *_: Plan(CPU, 64))
    answer = Engine(bundle_of(None), CPU, Events(), runtime_of=lambda *_: runtime).predict(image, wanted)
    assert runtime.calls == [(1, 1, 64, 64, 64)]
    assert answer[0, 32, 32, 10] == pytest.approx(float(image[0, 32, 32, 10]) + 1)
    assert answer[0, 0, 0, 0] == NEVER


class Bright(Recorder):
    """Sure where the image is over 0.5, otherwise not at all."""

    def logits(self, images, statistics, events):
        return super().logits(images, statistics, events) * 0 + (images[:, :1] - 0.5) * 100

    def measure(self, image, events):
        self.calls.append(("coarse", *image.shape))
        return (image[:, :1] - 0.5) * 100, torch.zeros(2, 0)


def bright_spot():
    image = torch.zeros(1, 128, 128, 256)
    image[0, 60:68, 60:68, 40:48] = 1
    return image


@pytest.fixture
def little_memory(monkeypatch):
    """Enough for a window of 96 voxels, and too little for the whole of `bright_spot`."""
    room = 2_000_000 * bytes_per_voxel(bundle_of(None, spacing=1.0).description.network)
    monkeypatch.setattr(engine, "budget", lambda _device: room)


def test_a_fine_network_goes_through_in_one_pass_where_that_fits():
    runtime, image = Bright(), bright_spot()
    Engine(bundle_of(None, spacing=1.0), CPU, Events(), runtime_of=lambda *_: runtime).predict(image, everywhere(image))
    assert runtime.calls == [(1, 1, 128, 128, 256)]


def test_a_fine_network_looks_closely_only_at_what_its_coarse_pass_finds(little_memory):
    runtime, image = Bright(), bright_spot()
    answer = Engine(bundle_of(None, spacing=1.0), CPU, Events(), runtime_of=lambda *_: runtime).predict(
        image, everywhere(image)
    )
    assert runtime.calls == [("coarse", 1, 1, 64, 64, 128), (1, 1, 96, 96, 96)]
    assert torch.equal(answer > 0, image > 0.5)


def test_a_candidate_outside_the_breast_is_none(little_memory):
    runtime, image = Bright(), bright_spot()
    wanted = everywhere(image)
    wanted[..., :128] = False
    Engine(bundle_of(None, spacing=1.0), CPU, Events(), runtime_of=lambda *_: runtime).predict(image, wanted)
    assert runtime.calls == [("coarse", 1, 1, 64, 64, 128)]


def test_the_whole_breast_goes_through_at_full_resolution_on_request(little_memory):
    runtime, image = Bright(), bright_spot()
    options = EngineOptions(whole_breast=True)
    Engine(bundle_of(None, spacing=1.0), CPU, Events(), options, lambda *_: runtime).predict(image, everywhere(image))
    windows = [call for call in runtime.calls if call[0] != "coarse"]
    assert len(windows) > 1


def test_classes_have_no_candidates(little_memory):
    """Softmax takes no notice of a shift of all logits, by which a sigmoid would find everything or nothing."""
    usual, runtime, image = bundle_of(None, spacing=1.0), Bright(), bright_spot()
    classes = replace(usual, description=usual.description.model_copy(update={"task": "clusters"}))
    Engine(classes, CPU, Events(), runtime_of=lambda *_: runtime).predict(image, everywhere(image))
    assert len([call for call in runtime.calls if call[0] != "coarse"]) > 1


def test_a_shrunk_image_keeps_its_means():
    image = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).view(1, 1, 2, 2)
    assert shrunk(image, 0.5).flatten().tolist() == [4.0]
    assert shrunk(image, 1.0) is image


# The ladder of fallbacks.


def test_the_ladder_from_a_gpu_to_the_last_step():
    plan, told = Plan(GPU, None, 2), []
    while step := step_down(plan):
        plan, message = step
        told.append(message.partition(": ")[2])
    assert told == [
        "windows went through in batches of 1.",
        "it was cut into windows of 160 voxels.",
        "it was cut into windows of 128 voxels.",
        "it was cut into windows of 96 voxels.",
        "it was cut into windows of 64 voxels.",
        "its answer was put together in the computer's memory.",
        "the CPU was used.",
        *(f"it was cut into windows of {edge} voxels." for edge in (160, 128, 96, 64)),
    ]


@pytest.fixture
def small_gpu(monkeypatch):
    """A GPU that says it has room for everything; its tensors lie on the CPU."""
    monkeypatch.setattr(engine, "budget", lambda _: 1 << 40)
    place = torch.Tensor.to

    def to(self, *args, **kwargs):
        return place(self, *(CPU if arg == GPU else arg for arg in args), **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(engine, "Blend", lambda shape, _, halo: Blend_(shape, CPU, halo))


Blend_ = engine.Blend


@pytest.mark.parametrize(
    ("most_voxels", "warnings"),
    [
        (128**3, ["windows of 160", "windows of 128"]),
        (64**3, ["windows of 160", "windows of 128", "windows of 96", "windows of 64"]),
        (
            0,
            ["windows of 160", "windows of 128", "windows of 96", "windows of 64", "computer's memory", "the CPU was"],
        ),
    ],
)
def test_a_gpu_that_is_too_small_gets_less_until_it_fits(small_gpu, most_voxels, warnings):
    runtimes = {"cuda": Recorder(GPU, most_voxels), "cpu": Recorder()}
    events, image = Events(), torch.rand(1, 128, 160, 164)
    answer = Engine(bundle_of(None), GPU, events, runtime_of=lambda _, device: runtimes[device.type]).predict(
        image, everywhere(image)
    )
    assert torch.allclose(answer, image + 1, atol=1e-5)
    assert len(events.warnings) == len(warnings)
    assert all(part in said for part, said in zip(warnings, events.warnings, strict=True))


def test_batches_are_halved_before_windows_get_smaller(small_gpu, monkeypatch):
    monkeypatch.setattr(Engine, "_first_plan", lambda *_: Plan(GPU, 96, 2))
    runtime, events, image = Recorder(GPU, most_windows=1), Events(), torch.zeros(1, 64, 64, 256)
    image[:, 32, 32, [30, 220]] = 1
    job = Engine(bundle_of(None, spacing=1.0), GPU, events, runtime_of=lambda *_: runtime)
    job.predict(image, image[0] > 0)
    assert [call[0] for call in runtime.calls] == [2, 1, 1] or [call[0] for call in runtime.calls] == [2, 2, 1, 1]
    assert all("in batches of" in warning for warning in events.warnings)


@pytest.mark.parametrize("reason", ["CUDA error: all CUDA-capable devices are busy or unavailable", "cuDNN error: 8"])
def test_a_gpu_that_fails_hands_over_to_the_cpu(small_gpu, reason):
    runtimes = {"cuda": Recorder(GPU, 0, fails_with=RuntimeError(reason)), "cpu": Recorder()}
    events, image = Events(), torch.rand(1, 8, 8, 8)
    job = Engine(bundle_of(None), GPU, events, runtime_of=lambda _, device: runtimes[device.type])
    assert torch.equal(job.predict(image, everywhere(image)), image + 1)
    assert events.warnings == [f"The GPU can't be used, the CPU was: {reason}."]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_lack_of_memory_after_every_step_is_told_as_such(error):
    runtime, image = Recorder(most_voxels=0, fails_with=error), torch.rand(1, 8, 8, 8)
    with pytest.raises(OutOfMemoryError) as caught:
        Engine(bundle_of(None), CPU, Events(), runtime_of=lambda *_: runtime).predict(image, everywhere(image))
    assert caught.value.exit_code == 4


def test_another_error_of_the_network_stays_what_it_is():
    runtime, image = Recorder(most_voxels=0, fails_with=RuntimeError("shapes do not fit")), torch.rand(1, 4, 4, 4)
    with pytest.raises(RuntimeError, match="shapes"):
        Engine(bundle_of(None), CPU, Events(), runtime_of=lambda *_: runtime).predict(image, everywhere(image))


def test_little_free_memory_means_windows_from_the_start(monkeypatch):
    bundle, image = bundle_of(None), torch.rand(1, 100, 100, 100)
    room = bytes_per_voxel(bundle.description.network) * 70**3
    monkeypatch.setattr(engine, "budget", lambda _: room)
    runtime, events = Recorder(), Events()
    Engine(bundle, CPU, events, runtime_of=lambda *_: runtime).predict(image, everywhere(image))
    assert {call[2:] for call in runtime.calls} == {(64, 64, 64)}
    assert events.warnings == ["Little memory is free: the exam was cut into windows of 64 voxels."]


def test_bytes_a_voxel_of_a_known_network():
    config = ResUNetConfig(in_channels=2, out_channels=1, channels=(8, 16), strides=(2,), head=0)
    # 2 in, 1 out, four sets of 8 and 16 features at an eighth of the voxels: 3 + 4 + 8 values of 4 bytes.
    assert bytes_per_voxel(config) == 60
    assert bytes_per_voxel(config, 2) == 30


def test_a_job_stops_between_windows(monkeypatch):
    events, image = Events(), torch.rand(1, 64, 64, 256)
    runtime = Recorder()
    monkeypatch.setattr(Engine, "_first_plan", lambda *_: Plan(CPU, 64))
    events.cancel()
    with pytest.raises(Cancelled):
        Engine(bundle_of(None), CPU, events, runtime_of=lambda *_: runtime).predict(image, everywhere(image))
    assert not runtime.calls


# OpenVINO.


@needs_openvino
@pytest.mark.parametrize("task", ["breast", "tumor"])
def test_openvino_agrees_with_pytorch(task, inputs):
    bundle = load_bundle(SHIPPED[task], task)
    single = bundle.description.model_copy(update={"bfloat16_dice_change": None})
    reference, runtime = TorchRuntime(bundle, CPU), OpenVinoRuntime(Bundle(single, bundle.sha256, bundle.network))
    image = inputs[task][0][None, :, :48, :56, :64]
    expected, statistics = reference.measure(image, Events())
    logits, measured = runtime.measure(image, Events())
    assert (logits.sigmoid() - expected.sigmoid()).abs().max() < 1e-3
    scale = statistics[1].sqrt()
    assert ((measured[0] - statistics[0]).abs() / scale).max() < 1e-2
    assert ((measured[1].sqrt() - scale).abs() / scale).max() < 1e-2
    for given in (None, statistics):
        answer = runtime.logits(image, given, Events())
        assert (answer.sigmoid() - expected.sigmoid()).abs().max() < 1e-3


@needs_openvino
def test_a_pass_of_openvino_stops_within_a_second():
    bundle = load_bundle(SHIPPED["tumor"], "tumor")
    events, runtime = Events(), OpenVinoRuntime(bundle)
    image = torch.randn(1, 2, 160, 160, 160)
    runtime.logits(image[..., :64, :64, :64], None, events)  # converted beforehand
    asked = []
    runtime._model("live", (tuple(image.shape),))  # and compiled
    threading.Timer(0.3, lambda: (asked.append(time.monotonic()), events.cancel())).start()
    with pytest.raises(Cancelled):
        runtime.logits(image, None, events)
    assert time.monotonic() - asked[0] < 1.0


@needs_openvino
def test_what_openvino_cannot_convert_goes_through_pytorch():
    class Strange(nn.Module):
        def forward(self, image):
            return image[:, :1] + torch.special.i0e(image[:, :1] * 0)  # which is 1 of 0

    events, image = Events(), torch.rand(1, 8, 8, 8)
    job = Engine(bundle_of(Strange(), sha256="strange"), CPU, events)
    assert torch.allclose(job.predict(image, everywhere(image)), image + 1)
    assert len(events.warnings) == 1 and events.warnings[0].startswith("OpenVINO can't run tiny, PyTorch was used")


@needs_openvino
@pytest.mark.parametrize(("change", "expected"), [(None, False), (0.0, True), (0.0005, True), (0.002, False)])
def test_bfloat16_only_where_it_was_measured_to_do_no_harm(monkeypatch, change, expected):
    bundle = bundle_of(None)
    described = bundle.description.model_copy(update={"bfloat16_dice_change": change})
    monkeypatch.setattr("BreastTumorSegLib.segmentation.runtimes.has_bfloat16", lambda: True)
    assert uses_bfloat16(Bundle(described, "", bundle.network)) is expected
    monkeypatch.setattr("BreastTumorSegLib.segmentation.runtimes.has_bfloat16", lambda: False)
    assert not uses_bfloat16(Bundle(described, "", bundle.network))


# Devices.


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match="auto, cpu or cuda"):
        choose_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(InputError, match="No CUDA device"):
        choose_device("cuda")


def busy(*_, **__):
    raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors ...")


def no_driver():
    import warnings

    warnings.warn("CUDA initialization: Found no NVIDIA driver on your system. Please check ...", stacklevel=2)
    return False


@pytest.mark.parametrize(
    ("available", "zeros", "reason"),
    [
        (lambda: True, busy, "CUDA error: all CUDA-capable devices are busy or unavailable"),
        (no_driver, None, "CUDA initialization: Found no NVIDIA driver on your system"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_told(monkeypatch, available, zeros, reason):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", available)
    if zeros:
        monkeypatch.setattr(torch, "zeros", zeros)
    inference._try_gpu.cache_clear()
    events = Events()
    assert choose_device("auto", events).type == "cpu"
    assert events.warnings == [f"No GPU can be used, the CPU was: {reason}."]
    with pytest.raises(InputError, match=reason):
        choose_device("cuda")
    inference._try_gpu.cache_clear()


def test_threads_are_shared_among_the_workers(monkeypatch):
    from BreastTumorSegLib.core import machine

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    for workers, threads in (("", 8), ("1", 8), ("3", 2), ("20", 1), ("x", 8), ("0", 8)):
        monkeypatch.setenv("BREAST_TUMOR_SEG_WORKERS", workers)
        assert machine.worker_threads() == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert machine.worker_threads() == 5
    before = torch.get_num_threads()
    limit_threads()
    assert torch.get_num_threads() == 5
    torch.set_num_threads(before)
