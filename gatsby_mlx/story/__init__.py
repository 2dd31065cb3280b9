"""Stories as text: the obsession, the prime, documents, words and sentences. Nothing here uses MLX or reads files."""
