"""A stream that runs for weeks: its controls, and what turns while it runs."""
