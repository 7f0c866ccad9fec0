"""Pure decoding: one Kafka record becomes an Event or a fault."""
