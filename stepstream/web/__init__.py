"""Health, metrics, page and API over HTTP, in a thread beside the loop."""
