"""The HTTP API, one file a resource. Each lists its operations; routes and OpenAPI are both made from those lists."""
