"""The benchmark behind `fl-he bench`: encrypted sums and federations against their alternatives.

Modules, in the order in which they import each other:

follow            what the terminal shows while something is measured
timing            medians of repeated runs
memory            peak memory of a process and its children
machine           what the figures were measured on
bench_file        bench.json
scheme            the unit of comparison: three encryptions, two additions, one decryption
phe_scheme        phe element by element
ckks_scheme       TenSEAL's CKKS
packed_scheme     fl-he in this process
jobs              what a fresh process is asked to do
fresh             fresh processes
cold_scheme       fl-he with a fresh process for each operation
kernel_row        one row of section `kernel`
contestants       who takes part for one key and one vector length
long_vector       one million values within a memory limit
kernel            section `kernel`
session           several strategies in one Ray session
groups            several apps on the same nodes
variants          a federated round encrypted, plain, and with empty messages
federation        section `federation`
hospitals         section `hospitals`
tables            the sections as tables
command           runs the chosen sections
"""
