"""Paillier encryption of number vectors; knows neither Flower nor learning.

Modules, in the order in which they import each other:

errors            what this layer raises
base64url         bytes as text without padding
strict_json       hostile JSON text to checked members
slots             signed integers side by side in one large integer
packing           float64 vectors to plaintexts and back
threads           threads for calls that release the interpreter lock
radix             exponents in digits, and how long a digit pays
fixed_base        a table of powers of the public base h_s
masking           encrypts plaintexts: decides when a table repays its building
workers           encrypts long vectors on several cores
canonical         fields as bytes that can be read in one way only
key_checks        what can be checked of a public key's numbers
public_key        encrypt, add, rerandomise, check; JSON; fingerprint
vector_header     the header of an encrypted vector's bytes
encrypted_vector  packed ciphertexts of one vector: add, bytes, validation
crt               decryption modulo the two primes
curve25519        which Ed25519 and X25519 public keys are sound
sealing_key       hybrid post-quantum keys that HPKE envelopes are sealed to
public_identity   what a node's signing and sealing keys show to others
key_file          files that only their owner may read
passphrase_file   files that hold a passphrase
protected_file    the same under a passphrase
identity          a node's private signing and sealing keys
binding           what an envelope is for: run, purpose, round, position, contributors
sealing           signed and sealed envelopes between two nodes
manifest          who takes part in a federation, handed out of band
private_key       key generation, decryption, JSON
power_table       a table of powers modulo any number
dgk_key           DGK public keys: small plaintexts, cheap tests for zero
dgk_private_key   their generation, encryption by the owner, the test
slot_layout       many queries in the slots of one plaintext
merging           numbers of small batches put into one plaintext
blinding          numbers hidden from the owner of the key who opens them
comparison        secure comparison with 0
argmax            secure argmax over classes by all pairs
relu              the ReLU of encrypted numbers
conditional_answer  a number told if a hidden bit is set
ciphertext_bytes  lists of ciphertexts as bytes
linear_map        a matrix times an encrypted vector
votes             encrypted votes, summed as any vector
"""
