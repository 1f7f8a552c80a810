"""Descriptions -> torch modules: an architecture, a reference network, a model of the user."""
