"""Weight binarizers: the optimum of alpha_beta against all cuts, and what it costs against a sort.

    python benchmarks/binarizers.py [--quick] [--json]

Times are in milliseconds, one thread count for all (torch's default).
"""

from collections.abc import Iterator

import torch
from claim import Claim, main, medians
from torch import Tensor

from bnas.binarize.alpha_beta import alpha_beta

FILTERS = 1000


def measure(quick: bool) -> Iterator[Claim]:
    """Compare with brute force, then time the largest convolution of a ResNet-18."""
    generator = torch.Generator().manual_seed(0)
    filters = torch.randn(FILTERS, 72, generator=generator, dtype=torch.float64)
    ours = squared_error(filters, alpha_beta(filters).dense())
    # Sums in another order differ by rounding: some 72 units of 1e-16.
    apart = (ours / least_squared_error(filters) - 1).abs() > 1e-13
    yield Claim(f"alpha_beta, filters of {FILTERS} not at the best of all cuts", float(apart.sum()), FILTERS, 0.0)

    weight = torch.randn(512, 512, 3, 3, generator=generator)
    ways = {"alpha_beta": lambda: alpha_beta(weight), "sort": lambda: torch.sort(weight.flatten(1), dim=1)}
    times = medians(ways, repeats=5 if quick else 21)
    yield Claim("alpha_beta of [512, 512, 3, 3], against torch.sort", times["alpha_beta"], times["sort"], 2.0)

    latent = weight.clone().requires_grad_()
    toward = torch.randn(weight.shape, generator=generator)
    ways["alpha_beta"] = lambda: alpha_beta(latent).dense().backward(toward)
    times = medians(ways, repeats=5 if quick else 21)
    yield Claim("the same with its backward pass, against torch.sort", times["alpha_beta"], times["sort"], 2.0)


def squared_error(filters: Tensor, values: Tensor) -> Tensor:
    return (filters - values).square().sum(-1)


def least_squared_error(filters: Tensor) -> Tensor:
    """Try every cut of every sorted filter [filters, n], with the class means computed anew each time."""
    ordered = filters.sort(-1).values
    best = torch.full((len(filters),), torch.inf, dtype=filters.dtype)
    for cut in range(1, filters.shape[1]):
        parts = ordered[:, :cut], ordered[:, cut:]
        error = sum(squared_error(part, part.mean(-1, keepdim=True)) for part in parts)
        best = torch.minimum(best, torch.as_tensor(error))
    return best


if __name__ == "__main__":
    main(measure, __doc__.splitlines()[0])
