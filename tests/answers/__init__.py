"""What a real ClickHouse sent, connection by connection, and what collects it."""
