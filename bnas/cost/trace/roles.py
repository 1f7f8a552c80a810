"""A module's place in the network -> the role of its layers, where the modules round it tell."""

from torch import nn

from bnas.cost.plan import Role
from bnas.layers.blocks import Block, BottleneckShortcut, ConvShortcut, Head, Network, SqueezeExcite
from bnas.layers.expert_conv import ExpertConv

# (the module around, the name of its child on the way; None for any) -> role; the innermost that matches counts.
_ROLES: dict[tuple[type[nn.Module], str | None], Role] = {
    (ExpertConv, "gate"): "gate",
    (SqueezeExcite, None): "squeeze_excite",
    (ConvShortcut, None): "shortcut",
    (BottleneckShortcut, None): "shortcut",
    (Block, "main"): "main",
    (Block, "mix"): "mix",
    (Head, "classifier"): "classifier",
    (Network, "stem"): "stem",
}


def role_of(path: str, model: nn.Module) -> Role:
    """Return the role of the convolution or linear layer at a path, `other` if nothing tells."""
    parts = path.split(".")
    for depth in range(len(parts) - 1, -1, -1):
        around, child = type(model.get_submodule(".".join(parts[:depth]))), parts[depth]
        role = _ROLES.get((around, child)) or _ROLES.get((around, None))
        if role:
            return role
    return "other"
