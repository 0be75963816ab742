"""The verbs of ``fl-he``: one file each, or two that belong together.

``run`` trains, ``report`` shows finished runs, ``bench`` measures, ``predict`` (with ``export``)
uses a saved model. The others serve an administrator, in this order: ``keygen`` (Paillier and DGK
keys), ``enroll`` (a node's identity), ``federation`` (the manifest of all nodes, and ``show``: what
a public file holds), ``agree`` (the agreement of a deployed CaPC). They share ``passphrase`` (the
option of key files) and ``public_file`` (files that anybody may read).

Each command imports the crypto layer when it runs: every call of ``fl-he`` loads this package.
"""
