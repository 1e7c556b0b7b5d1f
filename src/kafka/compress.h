/* The codecs of record batches: gzip, snappy (the framing that Java writes, and raw blocks), LZ4 frames, zstd.
 *
 * Decompression is bounded by the caller: it grows its buffer by what the decoder has produced, never by what the input
 * claims, and stops at the limit, so that a small input that unfolds to gigabytes costs at most `limit` bytes of ours.
 * (The libraries' own state is of fixed size but for zstd, which reserves, without touching it, the window that the
 * frame names: at most 128 MiB.) Pure functions: callable on any thread. */
#ifndef OXBOW_KAFKA_COMPRESS_H
#define OXBOW_KAFKA_COMPRESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

/* Bits 0-2 of a batch's attributes. */
enum kafka_codec { CODEC_NONE, CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD, CODEC_COUNT };

/* "none", "gzip", ...; "?" for others. */
const char *kafka_codec_name(enum kafka_codec codec);

/* Takes the codec's own default. */
#define COMPRESS_LEVEL_DEFAULT INT32_MIN

/* Appends the compressed form of data[0..size) to *out. Levels as in Kafka's compression.<codec>.level; ignored by
 * snappy. ERR_UNSUPPORTED for an unknown codec, ERR_INVALID for a level that the codec does not have, ERR_NO_MEMORY
 * from the library. */
enum err kafka_compress(enum kafka_codec codec, int32_t level, const void *data, size_t size,
                        struct buf *out) WARN_UNUSED;

/* Appends what data[0..size) unfolds to to *out, whose capacity never passes its size before the call + limit + 1.
 * ERR_TOO_LARGE past the limit, ERR_CORRUPT for bytes that are not of the codec (rest after the end included),
 * ERR_UNSUPPORTED for an unknown codec. On an error, *out has the size it had before. */
enum err kafka_decompress(enum kafka_codec codec, const void *data, size_t size, size_t limit,
                          struct buf *out) WARN_UNUSED;

/* The same for messages of magic 0. Their LZ4 frames carry a wrong checksum of the frame's descriptor: Kafka 0.8 and 0.9
 * computed it from the frame's first byte on. It is written so, and not looked at when read. */
enum err kafka_compress_magic0(enum kafka_codec codec, int32_t level, const void *data, size_t size,
                               struct buf *out) WARN_UNUSED;
enum err kafka_decompress_magic0(enum kafka_codec codec, const void *data, size_t size, size_t limit,
                                 struct buf *out) WARN_UNUSED;

#endif
