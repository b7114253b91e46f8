"""What the instance says of itself: version, metadata, health."""
