"""A scikit-learn MLPClassifier on handwritten digits, trained under encryption."""
