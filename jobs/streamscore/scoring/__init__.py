"""Pure functions that apply the models and compare their predictions with the labels."""
