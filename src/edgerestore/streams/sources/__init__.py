"""Where frames come from: one file for each kind, all behind `protocol.Source`."""
