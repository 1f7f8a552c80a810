"""The command line: one short function a command; the only part that prints."""
