"""What comes in: messages, decoded and encoded; a module per format."""
