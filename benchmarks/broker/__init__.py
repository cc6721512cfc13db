"""What the broker does in a second, how soon, and at what cost, beside Redis, RabbitMQ and SQL."""
