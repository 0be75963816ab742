"""Paillier encryption of number vectors, many numbers to a ciphertext.

Read ``packing`` first (numbers to plaintexts), then ``public_key`` and ``private_key``, then
``encrypted_vector``, which puts them together. The others make it fast.

packing           float64 vectors to integers in slots, and back
threads           threads for calls that release the interpreter lock
powers            powers of a fixed base from tables
masking           encrypt plaintexts: decides when a table repays its building
workers           encrypt long vectors on several cores
key_kind          kinds of keys, and the exponents of each
key_checks        checks of a public key's numbers
public_key        encrypt, add, rerandomise, check; JSON; fingerprint
summed_vector     interface of encrypted vectors, those of masks included
encrypted_vector  packed ciphertexts of one vector: add, bytes, validation
private_key       key generation, decryption, JSON
"""
