#!/usr/bin/env bash
# torch 2.13.0, CPU: AdamW and SGD with fused=True, a filter in channels last, and a state that was loaded contiguous, as
# safetensors, numpy or .contiguous() hand it back. load_state_dict keeps those strides, and the fused kernel goes through
# weight, gradient and moments in memory's order: each weight is moved by another one's moments, and nothing is said
# (on CUDA people report an error: "must have same dtype, device, and layout"; not run here). Without fused=True nothing differs.
# Who trains in channels last with fused optimizers and writes checkpoints with safetensors: after load_state_dict, copy
# each moment into torch.empty_like(weight).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 safetensors==0.8.0

cat > "$folder/resume.py" <<'PYTHON'
import torch
from safetensors.torch import load, save

torch.manual_seed(0)
START = torch.randn(8, 4, 3, 3)
GRADIENTS = [torch.randn(8, 4, 3, 3) for _ in range(4)]


def trained(make, fused, resumed, again):
    """Four steps; after two of them the state goes through safetensors and is loaded again."""
    weight = torch.nn.Parameter(START.clone().contiguous(memory_format=torch.channels_last))
    optimizer = make([weight], fused)
    for number, gradient in enumerate(GRADIENTS):
        if resumed and number == 2:
            state = optimizer.state_dict()
            tensors = {key: value.contiguous() for key, value in state["state"][0].items()}
            optimizer = make([weight], fused)
            optimizer.load_state_dict({"state": {0: load(save(tensors))}, "param_groups": state["param_groups"]})
            if again:
                for key, value in optimizer.state[weight].items():
                    if value.shape == weight.shape:
                        optimizer.state[weight][key] = torch.empty_like(weight).copy_(value)
        weight.grad = gradient.contiguous(memory_format=torch.channels_last)
        optimizer.step()
    return weight.detach()


def apart(make, fused, again=False):
    return float((trained(make, fused, True, again) - trained(make, fused, False, again)).abs().max())


MAKERS = {
    "AdamW": lambda weights, fused: torch.optim.AdamW(weights, lr=1e-2, fused=fused),
    "SGD": lambda weights, fused: torch.optim.SGD(weights, lr=1e-2, momentum=0.9, fused=fused),
}
for name, make in MAKERS.items():
    plain, fused, laid_out = apart(make, False), apart(make, True), apart(make, True, again=True)
    print(f"{name}: resumed and not, largest difference of a weight: plain {plain:.3g}, fused {fused:.3g}, "
          f"fused with the moments laid out as the weight {laid_out:.3g}")
    assert plain == laid_out == 0 and fused > 0.01
PYTHON
"$folder/venv/bin/python" "$folder/resume.py"
