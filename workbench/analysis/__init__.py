"""Analyze plans, graphs and measurements: times, roofline, differences, checks. All are pure functions of data."""
