"""A consortium's schema of its tables: columns, outcome, terms of the model, and form of the files.

Start with ``description``, which reads the schema's file, then ``application``, which reads a table
by it. Nothing in a schema is ever evaluated, and nothing that a schema asks for is learned from
data, but for the means that missing cells get.

yaml_text    YAML of bounded size: maps, lists and texts
formula      terms in formula notation, parsed
design       columns of the model from columns of a table
description  the schema and its checks
cells        columns of a table, read as they are declared
outcome      the columns of the outcome, read as they are declared
table        a table as its schema reads it
application  tables by their schema: faults, or the columns of the model
draft        a draft of a schema from one table
"""
