"""A small convolutional network on handwritten digits, trained under encryption."""
