"""Finding, choosing and testing a device."""
