"""Measure Protools on real servers; every figure is printed with how it was made."""
