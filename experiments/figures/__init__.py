"""The figures of a preset, one module each, named as its files are."""
