"""The console: pages for people, on the functions behind the API (contract section 9)."""
