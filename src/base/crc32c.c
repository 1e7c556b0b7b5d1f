/* The checksum itself is ISA-L's, which takes what the processor has. Combining two is ours: to append n zero bytes to
 * what A's checksum is of multiplies it by x^(8n) modulo the polynomial, and n's digits in base 16 are n's summands, so
 * each is a factor of that power, taken from a table. One multiplication a digit: five for a batch of 64 KiB.
 *
 * Polynomials over GF(2) are bit-reflected: in a word of 32 bits, bit 31 is x^0. The carry-less product of two of them
 * has its x^0 in bit 62. Shifted by one, its upper word is what lies below x^32, and its lower word is the rest divided
 * by x^32; a word times x^32, modulo the polynomial, is what the checksum of four bytes is, before it is inverted. */
#include "base/crc32c.h"

#include <isa-l/crc.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/bytes.h"

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

/* x^(8 * digit * 16^row) modulo the polynomial. The unit test knows them by another way. */
static const uint32_t powers[16][16] = {
    {0x80000000, 0x00800000, 0x00008000, 0x00000080, 0x82f63b78, 0xfbc3faf9, 0x8b277743, 0x52a0c93f, 0x6ea2d55c,
     0x1c08b7d6, 0xf56e0ef4, 0x34019664, 0xa66805eb, 0x7a1f6b24, 0xe75d06aa, 0xc94ec098},
    {0x80000000, 0x18b8ea18, 0x510ac59a, 0xb2dea967, 0xb82be955, 0x36c41f1c, 0x19b29a35, 0xc9e90b9e, 0xb8fdb1e7,
     0xe55ef1f3, 0x1fe0b5c3, 0xe0553f1e, 0x18e4a304, 0x2b830011, 0x56993a31, 0x0246e2e6},
    {0x80000000, 0x88e56f72, 0x74c360a4, 0x631bb273, 0xe4172b16, 0x71892b1b, 0x835305c9, 0x196b1eae, 0x0d65762a,
     0xafc81338, 0xb5a50ab7, 0xf373c3ac, 0x5f60970f, 0xd46d3063, 0x3a5275ea, 0x02331c01},
    {0x80000000, 0x35d73a62, 0x28461564, 0x43eefc9f, 0xbf455269, 0x5edcdeb9, 0x65059450, 0x4e6f41a4, 0xe2ea32dc,
     0xf5b95b32, 0x695a4c87, 0xf204502c, 0x9a4f01b6, 0x941a0916, 0x4303cb97, 0x4c3d3d65},
    {0x80000000, 0xfe7740e6, 0xf946610b, 0xa0a51f5f, 0x3c204f8f, 0x40f28a69, 0x35af26b2, 0xda70c2a6, 0x538586e3,
     0x78edc103, 0xf0f3875e, 0xefb7cf1d, 0x683988b2, 0xe5dbb221, 0x0fc062f5, 0xd7b17b91},
    {0x80000000, 0x59726915, 0x734d5309, 0xdb1b3315, 0xbc1ac763, 0x11b31f9d, 0x5414bce3, 0x54f2f77b, 0x7d0722cc,
     0xbae70d08, 0x238acb2b, 0xd2074e2b, 0x546dfa6e, 0x3f76a96c, 0xa3aa3946, 0xf054ca48},
    {0x80000000, 0xd289cabe, 0xe94ca9bc, 0x6ac5538f, 0x05b74f3f, 0x9e0b2298, 0x14de47cd, 0x3a9fb07d, 0xa51e1f42,
     0xfe578179, 0x038d778c, 0x5fe3cf44, 0xb7c64e40, 0x20cbb8e3, 0x4f04f803, 0x56745358},
    {0x80000000, 0x40000000, 0x20000000, 0x10000000, 0x08000000, 0x04000000, 0x02000000, 0x01000000, 0x00800000,
     0x00400000, 0x00200000, 0x00100000, 0x00080000, 0x00040000, 0x00020000, 0x00010000},
    {0x80000000, 0x00008000, 0x82f63b78, 0x8b277743, 0x6ea2d55c, 0xf56e0ef4, 0xa66805eb, 0xe75d06aa, 0x18b8ea18,
     0x2a03aaa3, 0x790606ff, 0x8542ba6d, 0x9957c0a6, 0x2e0af75a, 0x5d27e147, 0x9421797f},
    {0x80000000, 0x510ac59a, 0xb82be955, 0x19b29a35, 0xb8fdb1e7, 0x1fe0b5c3, 0x18e4a304, 0x56993a31, 0x88e56f72,
     0x12b02f20, 0x9030a49c, 0xc1550ce8, 0x67db2c4a, 0xf882f186, 0xe744dcb2, 0xc6ddcb06},
    {0x80000000, 0x74c360a4, 0xe4172b16, 0x835305c9, 0x0d65762a, 0xb5a50ab7, 0x5f60970f, 0x3a5275ea, 0x35d73a62,
     0xf65e86d6, 0x8eeafe04, 0x84e3f8c8, 0x481bee08, 0x59f4852c, 0xefcf4f49, 0xda1c4087},
    {0x80000000, 0x28461564, 0xbf455269, 0x65059450, 0xe2ea32dc, 0x695a4c87, 0x9a4f01b6, 0x4303cb97, 0xfe7740e6,
     0xab4c722a, 0x99569602, 0xd65a1d78, 0x78b57ca2, 0x30a8edff, 0x999dcda1, 0x5918f954},
    {0x80000000, 0xf946610b, 0x3c204f8f, 0x35af26b2, 0x538586e3, 0xf0f3875e, 0x683988b2, 0x0fc062f5, 0x59726915,
     0xe6ad6d8d, 0x30c6966d, 0x41757919, 0x5be8b36e, 0x5b146f36, 0x42c5623c, 0xd3c82384},
    {0x80000000, 0x734d5309, 0xbc1ac763, 0x5414bce3, 0x7d0722cc, 0x238acb2b, 0x546dfa6e, 0xa3aa3946, 0xd289cabe,
     0x7b254800, 0xc8018b1c, 0xb83be32a, 0x278af7fe, 0x82939bed, 0xff4be6de, 0xdd789cec},
    {0x80000000, 0xe94ca9bc, 0x05b74f3f, 0x14de47cd, 0xa51e1f42, 0x038d778c, 0xb7c64e40, 0x4f04f803, 0x40000000,
     0x74a654de, 0x802d9ce7, 0x8899189e, 0x528f0fa1, 0x01c6bbc6, 0x5be32720, 0xa5744779},
    {0x80000000, 0x20000000, 0x08000000, 0x02000000, 0x00800000, 0x00200000, 0x00080000, 0x00020000, 0x00008000,
     0x00002000, 0x00000800, 0x00000200, 0x00000080, 0x00000020, 0x00000008, 0x00000002},
};

static uint64_t multiply_carryless(uint32_t a, uint32_t b) {
    uint64_t multiples[16];
    multiples[0] = 0;
    multiples[1] = b;
    for (unsigned i = 2; i < 16; i += 2) {
        multiples[i] = multiples[i / 2] << 1;
        multiples[i + 1] = multiples[i] ^ b;
    }
    uint64_t product = 0;
    for (int shift = 28; shift >= 0; shift -= 4) product = (product << 4) ^ multiples[(a >> shift) & 15];
    return product;
}

/* On any processor. Not inlined: its local table would cost the other way a stack check. */
__attribute__((noinline)) static uint32_t append_zeros_anywhere(uint32_t crc, uint64_t size) {
    for (unsigned row = 0; size; row++, size >>= 4) {
        uint64_t product = multiply_carryless(crc, powers[row][size & 15]) << 1;
        uint8_t rest[4];
        le32_put(rest, (uint32_t)product);
        crc = (uint32_t)(product >> 32) ^ ~crc32c(~0u, rest, sizeof(rest));
    }
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2,pclmul"))) static uint32_t append_zeros_pclmul(uint32_t crc, uint64_t size) {
    for (unsigned row = 0; size; row++, size >>= 4) {
        __m128i power = _mm_cvtsi32_si128((int)powers[row][size & 15]);
        __m128i wide = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)crc), power, 0);
        uint64_t product = (uint64_t)_mm_cvtsi128_si64(wide) << 1;
        crc = (uint32_t)(product >> 32) ^ _mm_crc32_u32(0, (uint32_t)product);
    }
    return crc;
}
#endif

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.2"))
        return append_zeros_pclmul(crc_a, size_b) ^ crc_b;
#endif
    return append_zeros_anywhere(crc_a, size_b) ^ crc_b;
}
