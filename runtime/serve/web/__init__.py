"""The HTTP side, which needs the packages of `handglass[serve]`."""
