"""Compiled code, and only compiled code: arrays, addresses and numbers in, the same out."""
