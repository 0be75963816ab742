"""Encodings that are read in one way only, and streams of bytes from keys.

Start with ``fields``: every message and every JSON file from others declares its members by it.

canonical    byte fields with their lengths in front
fields       declared types and limits, and the strict readers that they give
strict_json  JSON text of exactly the declared members, bytes and integers as base64url
streams      keys and key streams from a secret
"""
