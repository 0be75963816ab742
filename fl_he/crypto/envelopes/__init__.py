"""Signed and sealed envelopes between two nodes, and the identities behind them.

Read ``sealing`` first, and there `Binding`, the occasion for which an envelope holds.

curve25519       checks of Ed25519 and X25519 public keys
sealing_key      hybrid post-quantum keys to which HPKE envelopes are sealed
public_identity  a node's public signing and sealing keys
identity         a node's private signing and sealing keys
sealing          bind an envelope to its occasion; sign, seal and open it
manifest         the participants of a federation, handed out of band
"""
