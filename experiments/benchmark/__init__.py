"""How fast a training step is: against the dense step, separate passes, its floating-point floor, and in memory."""
