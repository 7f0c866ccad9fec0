"""The HTTP API (contract section 5)."""

from goalworker.api.application import answer_problem, application, document, include, live_feed_of, problem_of

__all__ = ["answer_problem", "application", "document", "include", "live_feed_of", "problem_of"]
