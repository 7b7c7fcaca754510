"""What everything stands on: the store, events, worker processes, errors, limits. Knows no model and no compiler."""
