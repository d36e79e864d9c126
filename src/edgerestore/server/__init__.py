"""HTTP: the control interface of a stream, and motion JPEG."""
