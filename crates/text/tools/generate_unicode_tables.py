#!/usr/bin/env python3
"""Write src/unicode_tables.rs from the Python package unicodedata2.

Its version is that of Unicode: 15.1 is what llama.cpp's own tables have, so that the same text splits at the same places.

    pip install unicodedata2==15.1.0 && python3 tools/generate_unicode_tables.py > src/unicode_tables.rs
"""
import sys

import unicodedata2 as unicodedata

VERSION = "15.1.0"
LETTER, NUMBER, SPACE, PUNCTUATION, MARK, SYMBOL, CONTROL = 1, 2, 4, 8, 16, 32, 64
MAJOR = {"L": LETTER, "N": NUMBER, "P": PUNCTUATION, "M": MARK, "S": SYMBOL}
# The White_Space property; str.isspace() also holds for U+001C..U+001F, which have it not.
WHITE_SPACE = (set(range(0x09, 0x0E)) | {0x20, 0x85, 0xA0, 0x1680} | set(range(0x2000, 0x200B))
               | {0x2028, 0x2029, 0x202F, 0x205F, 0x3000})


def char_class(code_point):
    if code_point in WHITE_SPACE:
        return SPACE
    category = unicodedata.category(chr(code_point))
    if category in ("Cc", "Cf", "Co"):
        return CONTROL
    return MAJOR.get(category[0], 0)


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"this package has Unicode {unicodedata.unidata_version}; the tables are made with {VERSION}")
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
