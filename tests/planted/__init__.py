"""Planted bugs: patches that break the product on purpose, and the job that demands that each is found."""
