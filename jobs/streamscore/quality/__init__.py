"""How good the models are: every figure, defined once; pure."""
