"""What the small HTTP servers share: addresses, bounded connections, strict requests."""
