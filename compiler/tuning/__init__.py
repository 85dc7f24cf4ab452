"""Tuning: each kernel of a model, measured on the device, with the schedules' free choices open."""
