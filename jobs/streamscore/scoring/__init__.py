"""Apply the models and compare their predictions with the labels; pure."""
