"""Operators that Relax does not have in the form we want, written as tensor expressions.

Each says what is computed and marks its stages with a pattern; how the loops run is decided in
`schedules/`. Integer shapes are static except one symbolic length per operator.
"""
