"""Metrics sent on over OpenTelemetry's protocol; they are those of `/metrics`, converted."""
