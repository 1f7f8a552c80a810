"""A trained binary network -> its answers for images, and the same network fine-tuned on other images.

python examples/reuse.py
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnas

ARCHITECTURE = bnas.Architecture.model_validate(
    {"input": (1, 8, 8), "classes": 10, "stem": {"width": 8}, "stages": [{"depth": 2, "width": 16}, {"width": 32}]}
)
RECIPE = bnas.Recipe.model_validate({"batch": 64, "stages": [{"epochs": 10, "rate": 8e-3}]})


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images [n, 1, 8, 8] that a network gets right."""
    return float((network.eval()(images).argmax(1) == labels).float().mean())


def fine_tune(network: nn.Module, images: Tensor, labels: Tensor, *, epochs: int) -> None:
    """Train a network further, in any loop: its latent weights are float parameters, binary in the forward pass."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network.train()(images[rows]), labels[rows]).backward()
            optimizer.step()


def main() -> None:
    """Train, export, load; predict digits, and learn to read them white on black turned to black on white."""
    torch.manual_seed(0)
    digits = bnas.load_data("digits")
    trained = bnas.train_model(ARCHITECTURE, data=digits, recipe=RECIPE, out="runs/reuse", progress=False)
    network = bnas.load(bnas.export(trained, to="training", out="reused"))

    images, labels = next(digits.test.batches(len(digits.test)))  # normalised, as the network wants them
    print("predicted", network.eval()(images[:8]).argmax(1).tolist(), "labels", labels[:8].tolist())
    print(
        f"accuracy {accuracy(network, images, labels):.1%}, of inverted images {accuracy(network, -images, labels):.1%}"
    )

    others, answers = next(digits.train.batches(len(digits.train)))
    fine_tune(network, -others, answers, epochs=6)
    print(f"of inverted images after fine-tuning {accuracy(network, -images, labels):.1%}")
    torch.save(network.state_dict(), "fine_tuned.pt")


if __name__ == "__main__":
    main()
