"""Images as arrays -> the best binary network of a small space under a budget, as plain torch files.

python examples/search_arrays.py
"""

import bnas

SPACE = {
    "input": [1, 8, 8],
    "classes": 10,
    "stem": {"width": [8, 12]},
    "stages": [
        {"depth": [1, 2], "width": [16, 32], "groups": [1, 2]},
        {"depth": [1, 2], "width": [32, 64], "groups": [1, 2], "stride": 2},
    ],
    "search": {
        "trials": 20,
        "supernet": {"epochs": 5, "batch": 64, "rate": 4.0e-3},
        "scoring": {"recalibration_images": 250, "batch": 250},
        "retrain": {"top": 1, "recipe": {"batch": 64, "stages": [{"epochs": 8, "rate": 8.0e-3}]}},
    },
}


def main() -> None:
    """Search, say what was found, and hand it over."""
    digits = bnas.load_data("digits")  # stands for arrays of yours: uint8 [n, height, width], and their labels
    images, labels = digits.train.images[:, 0].numpy(), digits.train.labels.numpy()
    result = bnas.search(
        SPACE, data=(images, labels), budget={"ops": "40k", "bytes": "8k"}, out="runs/arrays", progress=False
    )
    print(result.front[["id", "proxy_loss", "ops", "bytes"]])  # ranked with shared weights, by proxy loss
    print(result.best)  # trained alone; of the same search, or of its random twin
    print("to hand over:", bnas.export(result, to="training", out="handover"))


if __name__ == "__main__":
    main()
