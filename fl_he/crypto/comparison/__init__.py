"""Computing on encrypted numbers between the owner of a key and a party that has the ciphertexts.

``comparison`` is the protocol on which ``argmax``, ``relu`` and ``conditional_answer`` are built;
it is Veugen's, with DGK encryption. Each file names its source.

dgk_key             DGK public keys: slots of small numbers, cheap tests for zero
dgk_private_key     their generation, encryption by the owner, the test
slot_layout         many queries in the slots of one plaintext
blinding            blind ciphertexts before the key's owner decrypts them
linear_map          a matrix times an encrypted vector
comparison          secure comparison with 0
argmax              secure argmax over classes by all pairs
relu                the ReLU of encrypted numbers
conditional_answer  a number told if a hidden bit is set
votes               encrypted votes, summed as any vector
"""
