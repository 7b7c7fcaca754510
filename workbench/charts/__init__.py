"""Plotly figures of plans, times and precision. Pure functions."""
