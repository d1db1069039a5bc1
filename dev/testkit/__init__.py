"""Helpers that tests, benchmarks and checks share: HTTP, Kafka, ClickHouse, captcha, events, processes."""
