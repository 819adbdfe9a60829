"""Decide what a saga does next."""
