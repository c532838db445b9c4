"""Enhancement maps, curve types and clusters of time-intensity curves. Imports no torch."""
