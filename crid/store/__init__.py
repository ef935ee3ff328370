"""What the daemon knows: objects in memory, their durable records, reserved names, image content and layers."""
