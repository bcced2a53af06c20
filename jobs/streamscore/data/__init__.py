"""Data for training models and filling topics."""
