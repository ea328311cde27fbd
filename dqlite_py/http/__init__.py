"""One client port: HTTP/2 with gRPC, HTTP/1.1 and JSON beside it. Knows nothing of the product."""
