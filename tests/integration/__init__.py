"""Tests with real processes, real clients and real servers."""
