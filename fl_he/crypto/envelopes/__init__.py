"""Signed and sealed envelopes between two nodes, and the identities behind them.

Read ``binding`` (for which occasion an envelope holds), then ``sealing``.

curve25519       checks of Ed25519 and X25519 public keys
sealing_key      hybrid post-quantum keys to which HPKE envelopes are sealed
public_identity  a node's public signing and sealing keys
identity         a node's private signing and sealing keys
binding          run, purpose, round, position and contributors of an envelope
sealing          sign, seal and open an envelope
manifest         the participants of a federation, handed out of band
"""
