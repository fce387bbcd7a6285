"""Secrets at rest and in flight: versioned keys, sealed columns, blind indexes, opaque tokens, signed texts. No I/O."""

import base64
import binascii
import datetime
import hashlib
import hmac
import re
import secrets
import unicodedata
import zlib
from collections.abc import Callable
from typing import cast
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
_DEV_KEY = b"jincai-dev-only-not-a-secret-key"
DEV_SECRET_KEYS = "dev:" + base64.urlsafe_b64encode(_DEV_KEY).rstrip(b"=").decode()
"""The published key of development; worthless for production, which must refuse it (`Keyring.has_dev_key`)."""

_KID = re.compile(r"[a-z0-9]{1,8}")
_KEY = re.compile(r"[A-Za-z0-9_-]+={0,2}")
_TAG_BYTES = 16


class Keyring:
    """Versioned master keys, the first of which is current; every use derives its own key from them."""

    def __init__(self, spec: str) -> None:
        """Read `kid:base64url-of-32-bytes,kid2:…`; ValueError names the entry by position, never its text."""
        self._masters: dict[str, bytes] = {}
        for position, entry in enumerate(spec.split(","), start=1):
            self._add(position, entry.strip())
        self.kids = tuple(self._masters)
        self.current = self.kids[0]
        self._derived: dict[tuple[str, str], bytes] = {}
        self._keyed: dict[tuple[str, str], hmac.HMAC] = {}
        self._taggers: dict[tuple[str, str], Callable[[bytes], str]] = {}

    def _add(self, position: int, entry: str) -> None:
        where = f"key {position} of the key ring"
        kid, colon, text = entry.partition(":")
        if not colon or not _KID.fullmatch(kid):
            raise ValueError(f"{where} must look like kid:key, with a kid of 1 to 8 characters a-z and 0-9")
        key = _master(where, text)
        if kid in self._masters:
            raise ValueError(f"{where} has the kid of an earlier one")
        if key in self._masters.values():
            raise ValueError(f"{where} is the same key as an earlier one")
        self._masters[kid] = key

    @property
    def has_dev_key(self) -> bool:
        """Whether any of the keys, under whatever kid, is the published one of development."""
        return _DEV_KEY in self._masters.values()

    def derive(self, label: str, kid: str) -> bytes:
        """The 32-byte key of one purpose: HKDF-SHA256 (RFC 5869) without salt; KeyError for an unknown kid."""
        known = self._derived.get((label, kid))
        if known is None:
            hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"jincai/{label}".encode())
            known = self._derived[label, kid] = hkdf.derive(self._masters[kid])
        return known

    def fingerprint(self, kid: str) -> str:
        """What tells this key from every other one, 64 hex digits that say nothing else of it; KeyError if unknown."""
        return self.derive("fingerprint", kid).hex()

    def token_digest(self, token: str) -> str:
        """What is stored instead of a token: its HMAC-SHA256 under the current pepper, 64 hex digits."""
        return self._hmac("token", self.current, token.encode()).hex()

    def token_digests(self, token: str) -> list[str]:
        """The digests to look a presented token up by, under every key, the current one first."""
        return [self._hmac("token", kid, token.encode()).hex() for kid in self.kids]

    def sign(self, label: str, payload: bytes) -> str:
        """`payload.kid.tag`, safe in URLs and readable by anyone; only `unsign` with the same label accepts it."""
        body = _encode(payload)
        return f"{body}.{self._tag(f'sign/{label}', body.encode(), self.current)}"

    def unsign(self, label: str, text: str) -> bytes | None:
        """The payload of a text made by `sign` under any key of the ring, or None."""
        body, _, tag = text.partition(".")
        if not text.isascii() or not self._tag_ok(f"sign/{label}", body.encode(), tag):
            return None
        return _decode(body)

    def mac(self, label: str, payload: bytes) -> str:
        """A detached `kid.tag` of at most 41 characters, safe in URLs, for a payload that travels elsewhere."""
        return self._tag(f"mac/{label}", payload, self.current)

    def macs(self, label: str) -> Callable[[bytes], str]:
        """`mac` for many payloads."""
        return self._tagger(f"mac/{label}", self.current)

    def mac_ok(self, label: str, payload: bytes, mac: str) -> bool:
        """Whether `mac` was made by `mac` for this label and payload under any key of the ring."""
        return mac.isascii() and self._tag_ok(f"mac/{label}", payload, mac)

    def _tag(self, label: str, payload: bytes, kid: str) -> str:
        return self._tagger(label, kid)(payload)

    def _tagger(self, label: str, kid: str) -> Callable[[bytes], str]:
        """Keyed BLAKE2b (RFC 7693): a third of the cost of an HMAC, and a page signs twenty links."""
        known = self._taggers.get((label, kid))
        if known is None:
            begun = hashlib.blake2b(key=self.derive(label, kid), digest_size=_TAG_BYTES)
            known = self._taggers[label, kid] = _tagger(begun, f"{kid}.")
        return known

    def _hmac(self, label: str, kid: str, payload: bytes) -> bytes:
        known = self._keyed.get((label, kid))
        if known is None:
            known = self._keyed[label, kid] = hmac.new(self.derive(label, kid), digestmod="sha256")
        # A copy costs a third of a new one.
        mac = known.copy()
        mac.update(payload)
        return mac.digest()

    def _tag_ok(self, label: str, payload: bytes, tag: str) -> bool:
        kid = tag.partition(".")[0]
        # The tag is compared as text: no decoding, so no second spelling of a good tag.
        return kid in self._masters and hmac.compare_digest(self._tag(label, payload, kid), tag)


def _tagger(begun: "hashlib.blake2b", before: str) -> Callable[[bytes], str]:
    def tagged(payload: bytes) -> str:
        tag = begun.copy()
        tag.update(payload)
        return before + tag.hexdigest()

    return tagged


def _master(where: str, text: str) -> bytes:
    if not _KEY.fullmatch(text):
        raise ValueError(f"{where} is not base64url")
    try:
        key = _decode(text.rstrip("="))
    except ValueError:
        raise ValueError(f"{where} is not base64url") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"{where} has {len(key)} bytes instead of {KEY_BYTES}")
    return key


_URL_SAFE, _STANDARD = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")


def _encode(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Unpadded base64url; the caller has checked the alphabet. ValueError for an impossible length."""
    return binascii.a2b_base64(text.encode().translate(_STANDARD) + b"=" * (-len(text) % 4))


# --- Sealed columns ---------------------------------------------------------------------------------------------

_SEALED_VERSION = b"\x01"
_KID_BYTES, _NONCE_BYTES = 8, 12
HEAD_BYTES = len(_SEALED_VERSION) + _KID_BYTES
_BODY = HEAD_BYTES + _NONCE_BYTES


class SealBroken(Exception):
    """A sealed value that cannot be opened: edited, moved from another place, or its key is gone."""


class Vault:
    """Personal data in columns: AES-256-GCM bound to the place it is stored in, and blind indexes to find it by.

    Nonces are random, so a key serves at most 2**32 seals (NIST SP 800-38D, 8.3): rotate long before.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._ciphers = {sealed_head(kid): AESGCM(keyring.derive("seal", kid)) for kid in keyring.kids}

    def seal(self, value: str, *, table: str, column: str, row_id: UUID) -> bytes:
        """Version, kid in 8 bytes, nonce and ciphertext, which open only at the same table, column and row."""
        head, nonce = sealed_head(self._keyring.current), secrets.token_bytes(_NONCE_BYTES)
        place = _place(table, column) + row_id.bytes
        return head + nonce + self._ciphers[head].encrypt(nonce, value.encode(), place)

    def open(self, sealed: bytes, *, table: str, column: str, row_id: UUID) -> str:
        """The value that was sealed at this place; SealBroken says which place and why, never what."""
        return cast(str, self.opener(table, column)(sealed, row_id))

    def opener(self, table: str, column: str) -> Callable[[bytes | None, UUID], str | None]:
        """`open` for many rows of one column; None stays None."""
        ciphers, place = self._ciphers, _place(table, column)

        def opened(sealed: bytes | None, row_id: UUID) -> str | None:
            if sealed is None:
                return None
            try:
                cipher = ciphers[sealed[:HEAD_BYTES]]
                return cipher.decrypt(sealed[HEAD_BYTES:_BODY], sealed[_BODY:], place + row_id.bytes).decode()
            except (ValueError, KeyError, InvalidTag) as failure:
                raise SealBroken(f"{table}.{column} of {row_id}: {_why(sealed, failure)}") from None

        return opened

    def is_current(self, sealed: bytes) -> bool:
        """Whether the value needs no re-sealing."""
        return sealed[:HEAD_BYTES] == sealed_head(self._keyring.current)

    def blind_index(self, field: str, value: str) -> str:
        """What an exact match on a sealed field is stored as: HMAC-SHA256 of field and normalised value, in hex."""
        return self._blind(field, value, self._keyring.current)

    def blind_indexes(self, field: str, value: str) -> list[str]:
        """The indexes to look a normalised value up by while keys rotate, under every key, the current one first."""
        return [self._blind(field, value, kid) for kid in self._keyring.kids]

    def _blind(self, field: str, value: str, kid: str) -> str:
        key = self._keyring.derive("blind-index", kid)
        return hmac.digest(key, f"{field}|{value}".encode(), "sha256").hex()


def sealed_head(kid: str) -> bytes:
    """What every value begins with that is sealed under this key: 9 bytes."""
    return _SEALED_VERSION + kid.encode().ljust(_KID_BYTES, b"\0")


def _place(table: str, column: str) -> bytes:
    return f"{table}|{column}|".encode()


def _kid(sealed: object) -> str | None:
    """The id of the key; None for what `seal` never wrote. SQLite lets others store text in a column of bytes."""
    if not isinstance(sealed, bytes):
        return None
    kid = sealed[len(_SEALED_VERSION) : HEAD_BYTES].rstrip(b"\0").decode("latin-1")
    return kid if _KID.fullmatch(kid) and sealed.startswith(sealed_head(kid)) else None


def _why(sealed: bytes, failure: Exception) -> str:
    kid = _kid(sealed)
    if kid is None:
        return "not a sealed value"
    return f"no key {kid} in the key ring" if isinstance(failure, KeyError) else "does not authenticate"


# --- Tokens -----------------------------------------------------------------------------------------------------

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_WIDTH, _CHECKSUM_WIDTH = 43, 6


def new_token(prefix: str) -> str:
    """The ASCII prefix, 256 random bits and a CRC32, both in base62: 49 characters after the prefix."""
    body = prefix + _base62(int.from_bytes(secrets.token_bytes(32), "big"), _SECRET_WIDTH)
    return body + _checksum(body)


def token_well_formed(prefix: str, token: str) -> bool:
    """Whether the checksum of a token holds: tells typing errors and foreign strings without asking the database."""
    body, check = token[:-_CHECKSUM_WIDTH], token[-_CHECKSUM_WIDTH:]
    secret = body.removeprefix(prefix)
    return (
        token.isascii()
        and body.startswith(prefix)
        and len(secret) == _SECRET_WIDTH
        and secret.isalnum()
        and check == _checksum(body)
    )


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_WIDTH)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


# --- Normal forms: what two spellings of the same fact must share before sealing and indexing ---------------------

_PHONE_SEPARATORS = re.compile(r"[\s().\-\u2010-\u2015]+")
_MOBILE = re.compile(r"(?:\+?86)?(1[3-9][0-9]{9})")
_LANDLINE = re.compile(r"(?:\+?860?|0)((?:10|2[0-9])[0-9]{8}|[3-9][0-9]{2}[0-9]{7,8})")
_FOREIGN = re.compile(r"\+(?!86)[1-9][0-9]{6,14}")
_ID_NUMBER = re.compile(r"[1-9][0-9]{16}[0-9X]")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECK = "10X98765432"
_NAME_DOTS = re.compile(r"[\u2022\u2027\u30fb\uff0e\uff65]")


def normalise_phone(text: str) -> str:
    """E.164 of a Chinese mobile or landline, or of any number given with its + or 00 country code; ValueError else."""
    compact = _PHONE_SEPARATORS.sub("", unicodedata.normalize("NFKC", text))
    if compact.startswith("00"):
        compact = "+" + compact[2:]
    chinese = _MOBILE.fullmatch(compact) or _LANDLINE.fullmatch(compact)
    if chinese:
        return "+86" + chinese[1]
    if _FOREIGN.fullmatch(compact):
        return compact
    raise ValueError("not a phone number")


def normalise_id_number(text: str) -> str:
    """The 18 characters of a resident identity number with a real birth date and checksum (GB 11643); ValueError else."""
    number = unicodedata.normalize("NFKC", text).strip().upper()
    if not _ID_NUMBER.fullmatch(number):
        raise ValueError("not an identity number")
    try:
        datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        raise ValueError("not an identity number: no such birth date") from None
    total = sum(weight * int(digit) for weight, digit in zip(_ID_WEIGHTS, number, strict=False))
    if number[17] != _ID_CHECK[total % 11]:
        raise ValueError("not an identity number: wrong check digit")
    return number


def normalise_name(text: str) -> str:
    """A person's name in NFC, trimmed, with single spaces and the one name dot U+00B7; ValueError when empty."""
    name = _NAME_DOTS.sub("\u00b7", " ".join(unicodedata.normalize("NFC", text).split()))
    if not name:
        raise ValueError("a name must not be empty")
    return name
