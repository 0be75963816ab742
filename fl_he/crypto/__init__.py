"""Paillier encryption of number vectors; knows neither Flower nor learning.

Modules, in the order in which they import each other:

errors            what this layer raises
strict_json       hostile JSON text to checked members
slots             signed integers side by side in one large integer
packing           float64 vectors to plaintexts and back
threads           threads for calls that release the interpreter lock
fixed_base        a table of powers of the public base h_s
masking           encrypts plaintexts: decides when a table repays its building
workers           encrypts long vectors on several cores
key_checks        what can be checked of a public key's numbers
public_key        encrypt, add, rerandomise, check; JSON; fingerprint
vector_header     the header of an encrypted vector's bytes
encrypted_vector  packed ciphertexts of one vector: add, bytes, validation
crt               decryption modulo the two primes
key_file          files that only their owner may read
private_key       key generation, decryption, JSON
"""
