"""Pure decoding of Kafka records into events or faults."""
