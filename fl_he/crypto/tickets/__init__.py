"""Tickets: company X learns whose updates are in a sum, and that nobody has changed them.

With each encrypted update a hospital sends a ticket: a fresh seed, sealed to company X and bound to
one occasion. The seed hides a tag in each ciphertext, a linear function of the ciphertext's values;
of a masked update it hides all words, see :mod:`fl_he.crypto.masks.masked_vector`. Tags add up as
values do, so company X checks the tag of a sum without seeing any update (Castelluccia, Chan,
Mykletun, Tsudik, "Efficient and provably secure aggregation of encrypted data in wireless sensor
networks", ACM TOSN 2009, section 5; Agrawal, Boneh, "Homomorphic MACs", ACNS 2009). Read
``ticketed_sum`` first.

tags           tags of a vector, and their check in a sum
occasion       session, purpose, round and question that a ticket is bound to
ticket         a seed, sealed and signed
pairs          masks that two hospitals share, and that cancel in the total of a set
ticketed_sum   an encrypted vector with the tickets of its contributors
opening        the check at company X
"""
