"""A session as one file: its models, engines and selection in a zip archive. Opening one trusts nothing in it."""
