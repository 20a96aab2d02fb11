"""The lab's own parts, and a short run of it with real members."""
