"""Ed25519 from RFC 8032, section 5.1, in plain Python. For tests only: slow, and not constant in time.

Nothing is taken from a library but SHA-512. `check()` compares with the test vectors of section 7.1.
"""

import hashlib

P = 2**255 - 19  # the field
L = 2**252 + 27742317777372353535851937790883648493  # order of the base point
D = -121665 * pow(121666, -1, P) % P  # of the curve -x² + y² = 1 + d x² y²
SQRT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


class Point:
    """A point in extended coordinates (section 5.1.4): x = X/Z, y = Y/Z, T = XY/Z."""

    def __init__(self, x, y, z, t):
        self.x, self.y, self.z, self.t = x, y, z, t

    def __add__(self, other):
        a = (self.y - self.x) * (other.y - other.x) % P
        b = (self.y + self.x) * (other.y + other.x) % P
        c = 2 * D * self.t * other.t % P
        d = 2 * self.z * other.z % P
        e, f, g, h = b - a, d - c, d + c, b + a
        return Point(e * f % P, g * h % P, f * g % P, e * h % P)

    def __rmul__(self, scalar):
        result, power = NEUTRAL, self
        while scalar:
            if scalar & 1:
                result = result + power
            power = power + power
            scalar >>= 1
        return result

    def __eq__(self, other):
        return (self.x * other.z - other.x * self.z) % P == 0 and (self.y * other.z - other.y * self.z) % P == 0

    def encode(self):
        """32 bytes: y, and the lowest bit of x on top (section 5.1.2)."""
        inverse = pow(self.z, -1, P)
        x, y = self.x * inverse % P, self.y * inverse % P
        return (y | (x & 1) << 255).to_bytes(32, "little")


NEUTRAL = Point(0, 1, 1, 0)


def _x_of(y, sign):
    """The x that belongs to y (section 5.1.3), or None if there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return x if x & 1 == sign else P - x


def decode(data):
    """The point of 32 bytes, or None if they are none. Only canonical encodings count."""
    if len(data) != 32:
        return None
    number = int.from_bytes(data, "little")
    y, sign = number & (2**255 - 1), number >> 255
    x = _x_of(y, sign) if y < P else None
    return None if x is None else Point(x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, -1, P) % P
BASE_X = _x_of(BASE_Y, 0)
BASE = Point(BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def _number_from_hash(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def _expand(seed):
    """Secret scalar and prefix of a private key (section 5.1.5)."""
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    scalar &= (1 << 254) - 8
    scalar |= 1 << 254
    return scalar, digest[32:]


def public_key(seed):
    """The public key, 32 bytes, of a private key, 32 bytes."""
    if len(seed) != 32:
        raise ValueError("a private key has 32 bytes")
    return (_expand(seed)[0] * BASE).encode()


def sign(seed, message):
    """The signature, 64 bytes (section 5.1.6)."""
    scalar, prefix = _expand(seed)
    r = _number_from_hash(prefix, message) % L
    commitment = (r * BASE).encode()
    challenge = _number_from_hash(commitment, public_key(seed), message) % L
    return commitment + ((r + challenge * scalar) % L).to_bytes(32, "little")


def verify(key, message, signature):
    """Whether the signature is by this key (section 5.1.7), strictly: canonical encodings, no points of small order."""
    a, r = decode(key), decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or len(signature) != 64 or s >= L:
        return False
    if 8 * a == NEUTRAL or 8 * r == NEUTRAL:
        return False
    challenge = _number_from_hash(signature[:32], key, message) % L
    return s * BASE == r + challenge * a


# RFC 8032, section 7.1: private key, public key, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


def check():
    """Raises AssertionError where this implementation differs from the RFC; returns the number of vectors."""
    for number, vector in enumerate(VECTORS, 1):
        seed, key, message, signature = map(bytes.fromhex, vector)
        assert public_key(seed) == key, f"RFC 8032 vector {number}: public key"
        assert sign(seed, message) == signature, f"RFC 8032 vector {number}: signature"
        assert verify(key, message, signature), f"RFC 8032 vector {number}: verification"
        assert not verify(key, message + b"!", signature), f"RFC 8032 vector {number}: another message verifies"
    return len(VECTORS)


if __name__ == "__main__":
    print(f"{check()} vectors of RFC 8032 hold")
