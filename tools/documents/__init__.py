"""What the generated documents say, one module for each."""
