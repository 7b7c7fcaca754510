"""Questions that take several builds or runs to answer: what-if over precisions, the benchmark, dynamic shapes."""
