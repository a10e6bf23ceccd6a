"""The experiment framework: configured runs of dlrt, their records and their tables."""
