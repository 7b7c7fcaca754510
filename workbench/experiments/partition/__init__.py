"""Partitions: which operators of a model a compiler takes, found by asking its parser or its builder."""
