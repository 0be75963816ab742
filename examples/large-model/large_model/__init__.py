"""A network of ten million parameters on handwritten digits, trained under encryption."""
