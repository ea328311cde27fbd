"""gRPC over HTTP/2: messages, deadlines, statuses and running calls."""
