"""Operators that Relax lacks in the required form, written as tensor expressions.

An operator defines what is computed and marks its stages with a pattern; `schedules/` decides how
the loops run. All dimensions are static except for one symbolic length per operator.
"""
