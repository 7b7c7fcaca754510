"""Experiments with several builds or runs: what-if over precisions, the benchmark, dynamic shapes."""
