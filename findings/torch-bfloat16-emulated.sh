#!/usr/bin/env bash
# torch 2.13.0 (oneDNN inside), x86: a convolution under autocast to bfloat16 on a processor without such instructions.
# It is no little slower than float32 but several times: with AVX-512 and no BF16 some 4 times, with AVX2 alone 17 to 18,
# forward and backward, 48 channels of 16x16, a batch of 64, one thread; with AMX it takes a third of float32's time.
# What torch itself offers to ask, torch.ops.mkldnn._is_mkldnn_bf16_supported, says True with AVX-512 and no BF16, where
# it takes some 4 times as long. Who lets people choose bfloat16 on CPUs: look for the instructions, as
# torch.cpu.get_capabilities names them.
# The script holds oneDNN back to either set of instructions; it needs a processor that has AVX-512.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
grep -q avx512bw /proc/cpuinfo

cat > "$folder/time.py" <<'PYTHON'
import sys
import time

import torch

torch.set_num_threads(1)
x = torch.randn(64, 48, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
layer = torch.nn.Conv2d(48, 48, 3, padding=1)


def fastest(short):
    """Seconds of the fastest of ten passes."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=short):
            y = layer(x)
        y.float().sum().backward()
        times.append(time.perf_counter() - start)
    return min(times)


ratio = fastest(True) / fastest(False)
supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
print(f"{sys.argv[1]}: bfloat16 takes {ratio:.1f} times as long as float32; supported, says torch: {supported}")
assert ratio > 2.5
assert supported == (sys.argv[1] == "AVX512_CORE")
PYTHON
for instructions in AVX512_CORE AVX2; do
    ONEDNN_MAX_CPU_ISA=$instructions "$folder/venv/bin/python" "$folder/time.py" "$instructions"
done
