"""Kafka: clients, consuming, producing, and what errors mean."""
