"""A float model of one's own -> which of its layers go to one bit within half the ops, trained so and handed over.

python examples/select_model.py
"""

from pathlib import Path

from float_net import build

import bnas

SOURCE = f"{Path(__file__).with_name('float_net.py')}:build"  # where an export finds the model


def main() -> None:
    """Train the float model, choose, convert, train what was converted, and hand it over."""
    digits = bnas.load_data("digits")
    model = bnas.train_model(build(), data=digits, epochs=5, out="runs/float", progress=False).load()
    chosen = bnas.select_layers(model, digits.train.batches(64), budget=["ops=50%"], metric="sensitivity")
    for row in chosen.rows():
        print(row["layer"], row["precision"], row["why"])
    binary = bnas.train_model(
        bnas.convert(model, chosen), data=digits, teacher=model, source=SOURCE, epochs=5,
        out="runs/binary", progress=False,
    )  # fmt: skip
    print(binary, f"{chosen.cost.ops:.0f} of {chosen.real_cost.ops:.0f} ops")
    print("to hand over:", bnas.export(binary, to="training", out="converted"))


if __name__ == "__main__":
    main()
