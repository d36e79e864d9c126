"""Where frames go: one file for each kind, all behind `protocol.Sink`."""
