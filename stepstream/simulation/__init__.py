"""Simulated devices with known steps, and the demo that runs on them."""
