"""Pages, charts and tables of every report."""
