"""What may be built and how it is trained: frozen descriptions, without torch."""
