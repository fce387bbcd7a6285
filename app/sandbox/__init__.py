"""The outside world for development: separate ASGI apps that share no code with the clients."""
