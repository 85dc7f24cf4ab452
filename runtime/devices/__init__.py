"""Discovery, selection and self-test of devices."""
