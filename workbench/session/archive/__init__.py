"""A session as one file: its models, engines and selection in a zip archive. An opened archive is untrusted."""
