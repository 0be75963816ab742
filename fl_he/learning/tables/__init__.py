"""Data: tables in files, datasets, their division and scaling, and sums over them.

Start with ``data``, which has the ``Dataset`` that everything else takes. ``table_file`` and
``table`` are between a file and a dataset; ``scaling`` and ``moments`` are between datasets of
hospitals and features in common units. ``feature_ranges`` reads declared ranges.

arrays          checked fields: read-only float64 arrays, and names
table_file      CSV and Parquet files as tables of named columns
table           cells of a table as numbers and labels
data            datasets, where they come from, and their schema
scaling         standardisation of features
moments         sums over examples, as exact as float64
partition       test set, and the hospitals of a simulation
feature_ranges  declared (public) lower and upper bounds of each feature
"""
