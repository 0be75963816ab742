"""Private keys on disk: files of mode 0600, optionally encrypted under a passphrase.

``protected_file`` has the two functions that others call; it builds on ``key_file``.

key_file        create, read and check a file that only its owner may read
protected_file  the same, encrypted under a passphrase (scrypt, ChaCha20-Poly1305)
"""
