"""Plug-ins for TVM's runtime, in C++: described by a recipe, found or built, loaded once.

The C++ sources in this folder are compiled into the plug-in of every kind.
"""
