"""Search a trained supernet under a budget: what fits it, samplers, scores, executors, fates, trust in the ranking."""
