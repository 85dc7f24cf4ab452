"""What is known about a bundle, as data with bounds, and as one HTML page with its pictures."""
