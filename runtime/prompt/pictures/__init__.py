"""Opens picture files from untrusted sources within fixed limits of memory and time."""
