"""Numbered SQL migrations, applied in order by `catalog.migrate`."""
