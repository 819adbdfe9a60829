"""Say how long a test waits until a promise counts as broken; never a measure of speed: a machine may be held up."""

PATIENCE_S = 120.0
