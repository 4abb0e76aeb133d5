"""Record what happens to a Python application."""
