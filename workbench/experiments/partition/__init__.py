"""Partitions: the operators of a model that a compiler supports, according to its parser or builder."""
