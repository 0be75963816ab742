"""The benchmark behind `fl-he bench`: encrypted sums and federations against their alternatives.

Modules, in the order in which they import each other:

schemes      the unit of comparison, and ways to encrypt: phe, HEU, fl-he's two, CKKS, BFV
timing       calls measured in turn, medians, and what the terminal is told meanwhile
fresh        fresh processes, their memory, and fl-he with one for each step
tickets      cost of tickets, apart from encryption
kernel       section `kernel`: all schemes on the same vectors
federation   section `federation`: rounds encrypted, plain and with empty messages
large_model  section `large-model`: rounds of a foreign app with a million parameters
hospitals    section `hospitals`: rounds by number of hospitals and topology
capc         section `capc`: the secure argmax and the label protocol
tables       the sections as tables
command      runs the chosen sections and writes bench.json
"""
