"""Media: frames and their information, colour conversion, encoding, display."""
