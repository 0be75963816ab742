"""Commands for keys and federations, in the order in which an administrator needs them.

``keygen`` (Paillier and DGK keys), ``enroll`` (a node's identity), ``federation`` (the manifest
of all nodes), ``agree`` (the agreement of a deployed CaPC), ``show`` (what a public file holds).
Beside them ``passphrase`` (the option that key files share), ``public_file`` (files that anybody
may read), ``plain_errors`` (refusals and warnings as one line).

Each command imports the crypto layer when it runs: every call of ``fl-he`` loads this package.
"""
