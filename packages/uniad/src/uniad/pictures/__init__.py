"""Pictures of what the model rebuilds and of what its queries have learned."""
