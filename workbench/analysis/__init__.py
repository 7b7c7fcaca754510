"""What plans, graphs and measurements prove: times, roofline, differences, checks. Pure functions of data."""
