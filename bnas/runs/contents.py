"""What lies in a run folder, by name; and what stands in its settings for images that cannot be found again."""

CONFIG, SPACE, ENVIRONMENT = "config.yaml", "space.yaml", "environment.json"
CONFUSION = "confusion"  # the table of which classes are taken for which
TARGETS = "targets"  # the table of the winners of several budgets, and the folder of their runs
IN_PYTHON = " (given in Python)"  # behind what a run calls images that were given so
