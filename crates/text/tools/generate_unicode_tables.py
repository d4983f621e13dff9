#!/usr/bin/env python3
"""Write src/unicode_tables.rs from Python's unicodedata.

Run with a Python whose unicodedata is 15.1 (CPython 3.13): the version llama.cpp's own tables
have, so that the same text splits at the same places.

    python3.13 tools/generate_unicode_tables.py > src/unicode_tables.rs
"""
import sys
import unicodedata

VERSION = "15.1.0"
LETTER, NUMBER, SPACE, PUNCTUATION, MARK = 1, 2, 4, 8, 16
MAJOR = {"L": LETTER, "N": NUMBER, "P": PUNCTUATION, "M": MARK}
# The White_Space property; str.isspace() also holds for U+001C..U+001F, which have it not.
WHITE_SPACE = (set(range(0x09, 0x0E)) | {0x20, 0x85, 0xA0, 0x1680} | set(range(0x2000, 0x200B))
               | {0x2028, 0x2029, 0x202F, 0x205F, 0x3000})


def char_class(code_point):
    if code_point in WHITE_SPACE:
        return SPACE
    return MAJOR.get(unicodedata.category(chr(code_point))[0], 0)


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"this Python has Unicode {unicodedata.unidata_version}; the tables are made with {VERSION}")
    ranges, last = [], 0
    for code_point in range(0x110000):
        now = char_class(code_point)
        if now != last:
            ranges.append((code_point, now))
            last = now
    print("//! Character classes of Unicode 15.1, written by `tools/generate_unicode_tables.py`; never edited by hand.\n")
    print("/// Where the class changes: `first code point << 8 | class bits`, ascending. Code points before the")
    print("/// first entry have no class. The bits are those of `char_class::CharClass`.")
    print("#[rustfmt::skip]")
    print(f"pub(crate) const CLASS_CHANGES: [u32; {len(ranges)}] = [")
    for i in range(0, len(ranges), 10):
        print("    " + " ".join(f"0x{c << 8 | k:x}," for c, k in ranges[i:i + 10]))
    print("];")


main()
