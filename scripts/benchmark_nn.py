"""Time the encoders against torch on the same cores: training steps, embedding a batch, embedding one image.

    python scripts/benchmark_nn.py --peers --json docs/results/benchmark_nn.json

Ours and the peer's runs alternate (A B A B ...), each timed alone, warm; the median of each is reported. Slow runs are
repeated less often, at least 3 times, so that a row takes about SECONDS. The floor is the number of floating-point
operations of the convolutions and linear layers, summed directly, over the matrix-product rate that torch reaches on
one large product in the same run; the share is floor over measured time, and above 100% where Winograd's convolution
does the same with fewer operations. Torch runs in float32, channels_last, with the same number of threads;
torch.compile and bfloat16 autocast are extra rows, as they change what is computed or when.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from command_line import Parser, check_writable

THREADS = 2
SECONDS = 12  # that the repeats of a row's runs may take together
PRODUCTS = ((256, 16, 32, 64), (256, 8, 64, 128), (64, 16, 128, 128))  # images, pixels a side, channels in and out
SKIPPED = []


def main():
    parser = Parser(__doc__)
    parser.add_argument("--peers", action="store_true", help="compare with torch")
    parser.add_argument("--compile", action="store_true", help="also torch.compile (takes a minute to compile)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", help="run the rows whose name contains this")
    parser.add_argument("--memory", choices=["ours", "torch"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    parser.at_least(arguments, repeats=1)
    if arguments.json is not None:
        check_writable(parser, "--json", arguments.json)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # the threads of one library do not spin while the other runs
    import numba

    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    if arguments.memory:
        return print(json.dumps(memory_of_a_step(arguments.memory)))
    torch = import_torch() if arguments.peers else None
    rows = []
    rate = matrix_product_rate(torch, arguments.repeats)
    makers = [small_step, small_batch, small_single, resnet_step]
    makers += [partial(product, which, *shape) for shape in PRODUCTS for which in ("y", "dweight", "dx")]
    for make in makers:
        if arguments.only and arguments.only not in getattr(make, "__name__", "product"):
            continue
        work, operations, ours, peers = make(torch, arguments.compile)
        times = interleaved({"ours": ours, **peers}, arguments.repeats)
        mine, floor = times.pop("ours"), operations / rate
        common = {"work": work, "ours": mine * 1e3, "unit": "ms", "floor": floor * 1e3, "share_of_floor": floor / mine}
        for peer, theirs in times.items() or [(None, None)]:
            ratio = theirs and theirs / mine
            rows.append(common | {"peer": peer, "theirs": theirs and theirs * 1e3, "ratio": ratio})
            show(rows[-1])
    if arguments.peers:
        rows += memory_rows(torch)
    result = {"command": " ".join(["python", *sys.argv]), "environment": environment(torch, rate), "rows": rows}
    if SKIPPED:
        result["skipped"] = SKIPPED
    if arguments.json:
        from refimpl.files import atomic_write

        with atomic_write(arguments.json) as file:
            file.write(json.dumps(result, indent=1).encode() + b"\n")


def import_torch():
    try:
        import torch
    except ImportError:
        SKIPPED.append("torch: not installed")
        print("torch is not installed: skipped")
        return None
    torch.set_num_threads(THREADS)
    return torch


def interleaved(runs, repeats):
    """Median seconds of each of the named runs, taken in turn: 3 to `repeats` times, as many as fit into SECONDS.

    bfloat16 is left out where a single run takes longer than that.
    """
    times, turns = {}, {}
    for name, run in runs.items():
        first = seconds_of(run)
        if name == "torch bfloat16" and first > SECONDS:
            SKIPPED.append(f"{name}: one run took {first:.0f} s")
            print(SKIPPED[-1])
            continue
        times[name], turns[name] = [], int(min(repeats, max(3, SECONDS / len(runs) / (2 * seconds_of(run)))))
    for turn in range(max(turns.values())):
        for name in times:
            if turn < turns[name]:
                runs[name]()  # the caches are this library's own again
                times[name].append(seconds_of(runs[name]))
    return {name: float(np.median(t)) for name, t in times.items()}


def seconds_of(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def matrix_product_rate(torch, repeats):
    """Floating-point operations a second in a 2048 x 2048 float32 product: torch's if there is one, else NumPy's."""
    a = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    a = a if torch is None else torch.from_numpy(a)
    return 2 * 2048**3 / interleaved({"product": lambda: a @ a}, repeats)["product"]


def show(row):
    theirs = f"{row['peer']} {row['theirs']:.2f}, ratio {row['ratio']:.2f}" if row["peer"] else ""
    floor = f" (floor {row['floor']:.2f}, share {row['share_of_floor']:.0%})" if "floor" in row else ""
    print(f"{row['work']:<60} ours {row['ours']:.3f} {row['unit']}{floor}  {theirs}", flush=True)


# --- The four works ------------------------------------------------------------------------------------------------


def small_step(torch, compiled):
    from refimpl import nn

    params, state = nn.cnn_init(seed=0)
    x, dy = inputs(256)
    run = training_step(nn.cnn, params, state, x, dy)
    peers = {} if torch is None else torch_steps(torch, torch_small(torch), x, dy, compiled)
    return "training step, conv 32-64-128-128, batch 256", step_operations(params, 256, (32, 32)), run, peers


def small_batch(torch, compiled):
    return embedding(torch, compiled, 256, "embedding, conv 32-64-128-128, batch 256")


def small_single(torch, compiled):
    work, operations, run, peers = embedding(torch, compiled, 1, "embedding one image, conv 32-64-128-128")
    # Too short for one clock reading: a run is 100 images, and the times are of 100.
    hundred = {name: (lambda run=run: [run() for _ in range(100)]) for name, run in {"": run, **peers}.items()}
    return f"{work} (100 times)", 100 * operations, hundred.pop(""), hundred


def resnet_step(torch, compiled):
    from refimpl import nn

    params, state = nn.resnet_init(widths=(64, 128, 256, 512), blocks=2, embedding=128, seed=0)
    x, dy = inputs(64)
    run = training_step(nn.resnet, params, state, x, dy)
    peers = {} if torch is None else torch_steps(torch, torch_resnet(torch), x, dy, compiled)
    return "training step, CIFAR ResNet-18, batch 64", step_operations(params, 64, (32, 32)), run, peers


def product(which, n, size, c_in, c_out, torch, compiled):
    """One of the three products of a 3x3 convolution with stride 1: what the steps above are made of."""
    from refimpl.nn import winograd

    rng = np.random.default_rng(2)
    shapes = (n, size, size, c_in), (3, 3, c_in, c_out), (n, size, size, c_out)
    x, weight, dy = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    one = (1, 1)
    run = {
        "y": lambda: winograd.convolve(x, winograd.transformed_weight(weight), c_out, one),
        "dweight": lambda: winograd.weight_gradient(x, dy, one),
        "dx": lambda: winograd.input_gradient(dy, weight, one),
    }[which]
    peers = {}
    if torch is not None:
        images, upstream = torch_images(torch, x), torch_images(torch, dy)
        kernel = torch.from_numpy(weight.transpose(3, 2, 0, 1)).contiguous(memory_format=torch.channels_last)

        def peer():
            if which == "y":
                return torch.nn.functional.conv2d(images, kernel, padding=1)
            mask = (which == "dx", which == "dweight", False)
            arguments = (None, one, one, one, False, (0, 0), 1, mask)
            return torch.ops.aten.convolution_backward(upstream, images, kernel, *arguments)

        peers["torch float32"] = peer
    work = f"{which} of conv 3x3, {n} x {size} x {size} x {c_in} to {c_out}"
    return work, 2 * n * size * size * weight.size, run, peers


def inputs(n):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 32, 32, 3)).astype(np.float32), rng.standard_normal((n, 128)).astype(np.float32)


def training_step(encoder, params, state, x, dy):
    from refimpl import nn

    held = [params, state, {}]

    def run():
        params, state, opt_state = held
        _, pullback, state = encoder(params, state, x, training=True)
        gradients = pullback(dy)
        params, opt_state = nn.sgd(
            params, gradients, opt_state, learning_rate=1e-4, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        held[:] = params, state, opt_state

    return run


def embedding(torch, compiled, n, work):
    from refimpl import nn

    params, state = nn.cnn_init(seed=0)
    embed = nn.cnn_embedder(nn.fold_batch_norm(params, state))
    x, _ = inputs(n)
    peers = {}
    if torch is not None:
        model, images = torch_small(torch).eval(), torch_images(torch, x)
        models = {"torch float32": model, **({"torch.compile": torch.compile(model)} if compiled else {})}

        def runner(model, enabled):
            def run():
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                    model(images)

            return run

        peers = {name: runner(model, False) for name, model in models.items()}
        peers["torch bfloat16"] = runner(model, True)
    return work, inference_operations(params, n, (32, 32)), lambda: embed(x), peers


def step_operations(params, n, size):
    """Operations of a training step: for each weight the products for y, dweight and, but in the first layer, dx."""
    total, area = 0, size[0] * size[1]
    plain = "conv0/weight" in params
    for name, weight in params.items():
        if weight.ndim == 4:
            if name.endswith("block0/conv1/weight") and not name.startswith("stage0"):
                area /= 4
            total += (3 if total else 2) * 2 * n * area * weight.size
            area = area / 4 if plain else area
        elif name == "head/weight":
            total += 3 * 2 * n * weight.size
    return total


def inference_operations(params, n, size):
    """Those of the forward pass of the plain network alone."""
    total, area = 0, size[0] * size[1]
    for name, weight in params.items():
        if weight.ndim == 4:
            total, area = total + 2 * n * area * weight.size, area / 4
        elif name == "head/weight":
            total += 2 * n * weight.size
    return total


# --- Torch ---------------------------------------------------------------------------------------------------------


def torch_small(torch):
    nn = torch.nn
    layers = []
    for c_in, c_out in ((3, 32), (32, 64), (64, 128), (128, 128)):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 128)).to(memory_format=torch.channels_last)


def torch_resnet(torch):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, c_in, c, stride):
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(c_in, c, 3, stride, 1, bias=False), nn.BatchNorm2d(c)
            self.conv2, self.norm2 = nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)
            self.shortcut = nn.Identity()
            if stride != 1 or c_in != c:
                self.shortcut = nn.Sequential(nn.Conv2d(c_in, c, 1, stride, bias=False), nn.BatchNorm2d(c))

        def forward(self, x):
            y = torch.relu(self.norm1(self.conv1(x)))
            return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))

    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    c_in = 64
    for stage, c in enumerate((64, 128, 256, 512)):
        for block in range(2):
            layers.append(Block(c_in, c, 2 if stage and not block else 1))
            c_in = c
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 128)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def torch_images(torch, x):
    return torch.from_numpy(x.transpose(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)


def torch_steps(torch, model, x, dy, compiled):
    images, upstream = torch_images(torch, x), torch.from_numpy(dy)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def runner(model, enabled):
        def run():
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                y = model(images)
            y.backward(upstream.to(y.dtype))
            optimizer.step()

        return run

    runs = {"torch float32": runner(model, False)}
    if compiled:
        runs["torch.compile"] = runner(torch.compile(model), False)
    return runs | {"torch bfloat16": runner(model, True)}


# --- Memory and environment ----------------------------------------------------------------------------------------


def memory_of_a_step(who):
    """Bytes by which the resident memory of this process grows at most over the training steps of the first work."""
    x, dy = inputs(256)
    if who == "torch":
        torch = import_torch()
        model = torch_small(torch)
        warm, run = (torch_steps(torch, model, *data, False)["torch float32"] for data in ((x[:2], dy[:2]), (x, dy)))
    else:
        from refimpl import nn

        params, state = nn.cnn_init(seed=0)
        warm, run = (training_step(nn.cnn, params, state, *data) for data in ((x[:2], dy[:2]), (x, dy)))
    warm()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    for _ in range(3):
        run()
    return resident("VmHWM") - before


def resident(what):
    """VmRSS (now) or VmHWM (peak) of this process, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(what))


def memory_rows(torch):
    """Peak memory of a training step, each library in a process of its own."""
    if not os.path.exists("/proc/self/clear_refs"):
        SKIPPED.append("memory: measured on Linux only")
        return []
    ours, theirs = (
        json.loads(subprocess.run([sys.executable, __file__, "--memory", who], capture_output=True, check=True).stdout)
        if who == "ours" or torch is not None
        else None
        for who in ("ours", "torch")
    )
    row = {"work": "peak memory of the training step, batch 256", "ours": ours / 2**20, "unit": "MiB"}
    row |= {"peer": theirs and "torch float32", "theirs": theirs and theirs / 2**20, "ratio": theirs and theirs / ours}
    show(row)
    return [row]


def environment(torch, rate):
    import numba

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": THREADS,
        "threading_layer": numba.threading_layer(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "torch": torch and torch.__version__,
        "matrix_product_gflops": rate / 1e9,
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
    }


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
