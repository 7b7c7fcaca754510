"""The base of all other packages: store, events, worker processes, errors, limits. It knows no model and no compiler."""
