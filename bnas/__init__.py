"""Search, train and ship binary neural networks under an op budget."""
