/* CRC-32 (as zlib's) and SHA-256, as the program file uses them. */
#ifndef BITLOOM_HASH_H
#define BITLOOM_HASH_H

#include <stdint.h>

uint32_t bitloom_crc32(const uint8_t *data, uint64_t bytes);
void bitloom_sha256(const uint8_t *data, uint64_t bytes, uint8_t digest[32]);

#endif
