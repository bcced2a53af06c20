"""The input messages: decode and encode them, with one module per format."""
