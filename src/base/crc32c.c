#include "base/crc32c.h"

#include <isa-l/crc.h>

#include "base/assert.h"

uint32_t crc32c(uint32_t crc, const void *data, size_t size) {
    /* ISA-L takes an int length, and neither inverts before nor after. */
    const unsigned char *p = data;
    crc = ~crc;
    while (size > 0) {
        size_t part = size < (1u << 30) ? size : (1u << 30);
        crc = crc32_iscsi((unsigned char *)(uintptr_t)p, (int)part, crc);
        p += part;
        size -= part;
    }
    return ~crc;
}

/* Polynomials over GF(2) modulo Castagnoli's, bit-reflected: bit 31 is x^0. */
#define CRC32C_POLY 0x82f63b78u

static uint32_t poly_multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit && a; bit >>= 1) {
        if (a & bit) {
            product ^= b;
            a ^= bit;
        }
        b = (b >> 1) ^ (CRC32C_POLY & -(b & 1));
    }
    return product;
}

/* x^(8 * 2^k) modulo the polynomial, k = 0..63: shifting by 2^k zero bytes is one multiplication with it. Each is the
 * square of the one before; the unit test computes them again. */
static const uint32_t byte_powers[64] = {
    0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a, 0xb82be955, 0xb8fdb1e7,
    0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a, 0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
    0xfe7740e6, 0xf946610b, 0x3c204f8f, 0x538586e3, 0x59726915, 0x734d5309, 0xbc1ac763, 0x7d0722cc,
    0xd289cabe, 0xe94ca9bc, 0x05b74f3f, 0xa51e1f42, 0x40000000, 0x20000000, 0x08000000, 0x00800000,
    0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a, 0xb82be955, 0xb8fdb1e7, 0x88e56f72,
    0x74c360a4, 0xe4172b16, 0x0d65762a, 0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc, 0xfe7740e6,
    0xf946610b, 0x3c204f8f, 0x538586e3, 0x59726915, 0x734d5309, 0xbc1ac763, 0x7d0722cc, 0xd289cabe,
    0xe94ca9bc, 0x05b74f3f, 0xa51e1f42, 0x40000000, 0x20000000, 0x08000000, 0x00800000, 0x00008000,
};

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b) {
    for (int k = 0; size_b; k++, size_b >>= 1) {
        if (size_b & 1) crc_a = poly_multiply(byte_powers[k], crc_a);
    }
    return crc_a ^ crc_b;
}
