"""What the parts of a stream promise each other: sources, sinks, controls."""
