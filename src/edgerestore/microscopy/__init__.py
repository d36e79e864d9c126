"""Images that fit in no memory: read, restored and written by region, with what belongs to them."""
