"""What a scorer sets batch norms by: so many images as it is told, in batches of one size."""

import pytest
import torch

from bnas.data import load_data
from bnas.searcher.score import Scorer
from bnas.space.settings import Scoring
from bnas.supernet import Supernet
from tests.tiny import tiny_space


@pytest.mark.parametrize(
    ("images", "batch", "sizes"),
    [
        (100, 500, [100]),
        (500, 500, [500]),
        (501, 500, [250, 250]),
        (1000, 500, [500, 500]),
        (400, 150, [133, 133, 133]),
        (5000, 400, [360, 360, 360]),  # of 1,080 training images
    ],
)
def test_as_many_images_set_batch_norms_as_are_asked_for(images: int, batch: int, sizes: list[int]) -> None:
    data = load_data("digits", limit=1200)
    scoring = Scoring(recalibration_images=images, validation_images=50, batch=batch)
    scorer = Scorer(Supernet(tiny_space()), data, scoring, seed=0, device=torch.device("cpu"))
    assert [len(batch) for batch in scorer._recalibration] == sizes
    assert min(images, len(data.train)) - sum(sizes) < len(sizes)
