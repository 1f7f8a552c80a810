"""A space and images -> how long a search of them takes on this machine, by some steps of each of its parts.

python examples/how_long.py search_spaces/digits.yaml --data digits
"""

import argparse

from bnas.api.appointing import appointed
from bnas.api.opening import load_matching
from bnas.api.pace import pace_of, planned
from bnas.api.request import resolve


def main() -> None:
    """Measure the parts of a search, and say what they take together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", help="YAML file of the space")
    parser.add_argument("--data", default="digits", help="as of bnas search")
    asked = parser.parse_args()
    request = resolve(asked.space, asked.data)
    images = load_matching(request)
    request = appointed(request, images, trust=False).on(images)
    pace = pace_of(request, images)
    plan = planned(request.settings, pace, images)
    taught = [("teacher", plan.teacher, f"{1 / pace.teacher_step:.3g} steps a second")] if plan.teacher else []
    for part, seconds, rate in (
        *taught,
        ("supernet", plan.supernet, f"{1 / pace.supernet_step:.3g} steps a second"),
        ("scoring", plan.scoring, f"{1 / pace.score:.3g} candidates a second"),
        ("finalists", plan.retrain, f"{1 / pace.alone_step:.3g} steps a second"),
    ):
        print(f"{part:10}{seconds:6.0f} s, {rate}")
    print(f"together  {plan.seconds / 60:6.1f} minutes")
    if others := len(request.settings.targets) - 1:
        print(f"for one of its budgets; scoring and finalists are done again for each of the {others} others")


if __name__ == "__main__":
    main()
