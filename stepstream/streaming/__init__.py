"""Kafka: the consumer's loop, its outbox and commits, partitions, topics."""
