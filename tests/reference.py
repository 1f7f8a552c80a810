"""Naive versions of clever code, written from the formulas, for tests to compare with."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from spaces import costs_of
from torch import Tensor

from bnas.binarize import BinaryWeight
from bnas.cost.budget import Budget
from bnas.searcher.by_metric import MetricSpace
from bnas.select import Problem
from bnas.space.space import Genes, SearchSpace
from bnas.train import Objective


def naive_sign(value: Tensor) -> Tensor:
    """Return +1 where value >= 0, else -1; gradient 1 where |value| < 1, else 0, by plain autograd."""
    signs = torch.where(value.detach() >= 0, torch.ones_like(value), -torch.ones_like(value))
    inside = torch.where(value.detach().abs() < 1, value, value.detach())
    return signs + (inside - inside.detach())


def per_image_conv(x: Tensor, weight: Tensor, *, stride: int, groups: int, pad_value: float) -> Tensor:
    """Convolve image b with its own filters.

    Args:
        x: [batch, in, height, width], not yet padded.
        weight: [batch, out, in / groups, tall, wide].
    """
    tall, wide = weight.shape[-2:]
    x = F.pad(x, (wide // 2, wide // 2, tall // 2, tall // 2), value=pad_value)
    windows = x.unfold(2, tall, stride).unfold(3, wide, stride)  # [batch, in, height, width, tall, wide]
    windows = windows.unflatten(1, (groups, -1))
    filters = weight.unflatten(1, (groups, -1))
    return torch.einsum("bgchwij,bgocij->bgohw", windows, filters).flatten(1, 2)


def naive_expert_conv(
    x: Tensor,
    weight: Tensor,
    alpha: Tensor | None,
    gate_weight: Tensor,
    gate_bias: Tensor,
    *,
    binarize_weight: Callable[[Tensor], BinaryWeight] | None,
    binarize_input: Callable[[Tensor], Tensor] | None,
    stride: int,
    groups: int,
    pad_value: float,
) -> Tensor:
    """Expert convolution with every image's own latent filters: theta_b = sum over n of phi[b, n] * weight[n].

    phi is one-hot forward and softmax backward; autograd does the rest.
    """
    share = torch.softmax(x.mean((2, 3)) @ gate_weight.T + gate_bias, dim=1)
    one_hot = F.one_hot(share.argmax(1), len(weight)).to(x.dtype)
    phi = one_hot + (share - share.detach())
    theta = torch.einsum("bn,nocij->bocij", phi, weight)
    filters = theta if binarize_weight is None else binarize_weight(theta).dense()
    if alpha is not None:
        filters = alpha.view(-1, 1, 1, 1) * filters
    if binarize_input is not None:
        x = binarize_input(x)
    return per_image_conv(x, filters, stride=stride, groups=groups, pad_value=pad_value)


def least_error_of_all_splits(filter: Tensor) -> Tensor:
    """Return min ||w - W~||^2 over all 2^n - 2 ways of splitting a filter [n] into two classes with their means."""
    best = torch.tensor(torch.inf)
    for bits in itertools.product((False, True), repeat=len(filter)):
        upper = torch.tensor(bits)
        if upper.any() and not upper.all():
            best = torch.minimum(best, _within(filter[upper]) + _within(filter[~upper]))
    return best


def least_error_of_all_cuts(filters: Tensor) -> Tensor:
    """Return min ||w - W~||^2 over all cuts of each sorted filter [filters, n], as [filters]."""
    ordered = filters.sort(-1).values
    errors = [_within(ordered[:, :k]) + _within(ordered[:, k:]) for k in range(1, filters.shape[1])]
    return torch.stack(errors).amin(0)


def _within(values: Tensor) -> Tensor:
    return (values - values.mean(-1, keepdim=True)).square().sum(-1)


def least_spread_clusters(values: list[int], clusters: int) -> list[list[list[int]]]:
    """Return every way of cutting sorted values into so many clusters whose squared error is least."""
    ways = []
    for cuts in itertools.combinations(range(1, len(values)), clusters - 1):
        ends = [0, *cuts, len(values)]
        parts = [values[start:end] for start, end in itertools.pairwise(ends)]
        # Exact: squared errors times the least common multiple of all sizes up to nine.
        spread = sum(2520 * sum(v * v for v in part) - 2520 * sum(part) ** 2 // len(part) for part in parts)
        ways.append((spread, parts))
    least = min(spread for spread, _ in ways)
    return [parts for spread, parts in ways if spread == least]


def best_subset(problem: Problem) -> float | None:
    """Return the highest value of a subset that keeps the limits, by trying them all; None if none does."""
    worths = []
    for bits in itertools.product((False, True), repeat=len(problem.choices)):
        chosen = [choice for choice, bit in zip(problem.choices, bits, strict=True) if bit]
        if problem.admits({choice.name for choice in chosen}):
            worths.append(sum(choice.score.value for choice in chosen))
    return max(worths, default=None)


def naive_prelu(value: Tensor, slope: Tensor) -> Tensor:
    """Return value where it is above 0, else slope * value; by plain autograd."""
    return torch.where(value > 0, value, slope.view(-1, 1, 1) * value)


def naive_norm(x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """Return batch norm by the statistics of the batch itself."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * factor.view(-1, 1, 1) + shift.view(-1, 1, 1)


def naive_tau(score: Sequence[float], truth: Sequence[float]) -> float:
    """Return Kendall's tau-b, pair by pair."""
    agreeing = by_score = by_truth = 0
    for (s, t), (other_s, other_t) in itertools.combinations(zip(score, truth, strict=True), 2):
        sign_s, sign_t = (s > other_s) - (s < other_s), (t > other_t) - (t < other_t)
        agreeing += sign_s * sign_t
        by_score += sign_s != 0
        by_truth += sign_t != 0
    return agreeing / math.sqrt(by_score * by_truth)


def in_parts(objective: Objective, parts: list[Tensor]) -> Objective:
    """Return the objective that takes the parts of a batch (places, int64) one by one, as processes do side by side."""

    def whole(images: Tensor, labels: Tensor, step: int) -> Tensor:
        losses = [len(part) * objective(images[part], labels[part], step) for part in parts]
        return torch.stack(losses).sum() / len(labels)

    return whole


def naive_warped(image: Tensor, angle: float, scale: tuple[float, float], move: tuple[float, float]) -> Tensor:
    """One image [channels, height, width] seen through a window, pixel by pixel, between four neighbours."""
    out = torch.zeros_like(image)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            x, y = scale[0] * (column - (width - 1) / 2), scale[1] * (row - (height - 1) / 2)
            across = math.cos(angle) * x - math.sin(angle) * y + move[0] * width + (width - 1) / 2
            along = math.sin(angle) * x + math.cos(angle) * y + move[1] * height + (height - 1) / 2
            for i in (math.floor(along), math.floor(along) + 1):
                for j in (math.floor(across), math.floor(across) + 1):
                    if 0 <= i < height and 0 <= j < width:
                        out[:, row, column] += image[:, i, j] * (1 - abs(along - i)) * (1 - abs(across - j))
    return out


def chances_within(space: SearchSpace, budget: Budget) -> dict[Genes, float]:
    """Return the chance of each network in a draw of `space.sample` that is made again until it is inside the budget.

    By trying every way in which a draw can fall: every index of every dimension, and how many inputs stay real where a
    metric decides which.
    """
    chances: dict[Genes, float] = {}
    ways = list(itertools.product(*(range(len(dimension.choices)) for dimension in space.dimensions)))
    for way in ways:
        drawn = [SearchSpace.canonical(space, way)]
        if isinstance(space, MetricSpace):
            drawn = [space.decided(drawn[0], kept=kept) for kept in range(len(list(space._blocks(drawn[0]))) + 1)]
        for genes in drawn:
            chances[genes] = chances.get(genes, 0.0) + 1 / len(drawn)
    inside = {genes: c for genes, c in chances.items() if budget.admits(costs_of(space, space.architecture(genes)))}
    return {genes: chance / sum(inside.values()) for genes, chance in inside.items()}


def naive_average(values: Sequence[Tensor], decay: float) -> Tensor:
    """Return the moving average of what a weight was after each step."""
    average = values[0]
    for t, value in enumerate(values[1:], start=1):
        kept = min(decay, t / (9 + t))
        average = kept * average + (1 - kept) * value
    return average


def naive_lazy_adamw(weight: Tensor, gradients: list[Tensor], *, rate: float, decay: float) -> Tensor:
    """Weights after steps of AdamW that leave each entry alone while its gradient is 0, one number at a time."""
    found = weight.clone().flatten()
    first, second = [0.0] * len(found), [0.0] * len(found)
    for step, gradient in enumerate((g for g in gradients if g.any()), 1):
        for place, g in enumerate(gradient.flatten().tolist()):
            if g:
                first[place] = 0.9 * first[place] + 0.1 * g
                second[place] = 0.999 * second[place] + 0.001 * g * g
                mean, square = first[place] / (1 - 0.9**step), second[place] / (1 - 0.999**step)
                found[place] = found[place] * (1 - rate * decay) - rate * mean / (math.sqrt(square) + 1e-8)
    return found.view_as(weight)
