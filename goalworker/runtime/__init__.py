"""Long-running services: start-up, supervision, health, shutdown."""
