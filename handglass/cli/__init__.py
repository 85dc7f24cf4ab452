"""The command line, one file per verb. A verb imports its dependencies only when it runs."""
