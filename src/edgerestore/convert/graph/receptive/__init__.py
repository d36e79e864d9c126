"""How far an output pixel sees, read off the graph."""
