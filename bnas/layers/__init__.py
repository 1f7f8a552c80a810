"""The torch modules that networks are built from."""
