/* Every budget of memory, once: what may be held at the same time by what grows with load. /metrics (oxbow_memory_bytes,
 * oxbow_memory_limit_bytes), docs/memory.md and the derivation of parts from memory.bytes come from it. Included several
 * times; no include guard on purpose.
 *
 *   MEMORY(id, name, gauge, property, limit, text)
 *
 * gauge: the metric that follows what is held; METRIC_GAUGES: nothing does, the limit is what was measured of it.
 * property: what an operator sets; "": nothing. limit: of configuration `c` with `shards` shards, in bytes
 * (broker/memory.c; with the sizes of stream/sizes.h). */
/* clang-format off */
MEMORY(MEMORY_LOG_CACHE, "log-cache", M_LOG_CACHE_BYTES, "cache.log.bytes",
       larger(c->cache_log_bytes, 4 * (int64_t)shards * (int64_t)COMMIT_SLAB_SIZE),
       "Records that are not uploaded yet or were written lately, and the index of where they lie. When it is full of the former, producers wait.")
MEMORY(MEMORY_LOG_CACHE_LENT, "log-cache-lent", M_LOG_CACHE_LENT_BYTES, "cache.log.bytes", c->cache_log_bytes / 4,
       "What the log cache has let go of and answers still hold. Above this no further answer is begun that could hold much, and what is read is "
       "copied: so no more is lent than answers held of the cache by then. The cache has as much less, down to an eighth of it.")
MEMORY(MEMORY_BLOCK_CACHE, "block-cache", M_BLOCK_CACHE_BYTES, "cache.block.bytes", c->cache_block_bytes,
       "Blocks of objects that were read back; GETs under way have their room in it.")
MEMORY(MEMORY_BLOCK_CACHE_LENT, "block-cache-lent", M_BLOCK_CACHE_LENT_BYTES, "read.ahead.bytes",
       smaller(c->read_ahead_bytes, c->cache_block_bytes / 2),
       "What the block cache has let go of and answers still hold. Above this an answer ends with the block that it "
       "has, and no further one is begun that could hold much.")
MEMORY(MEMORY_REQUESTS, "requests", M_RECEIVE_BYTES, "queued.max.request.bytes", c->queued_max_request_bytes,
       "Requests that are being received, wait or are worked on, with the stacks of the latter. When it is full "
       "sockets are not read; a quarter of it is for finishing the one request that may go on all the same.")
MEMORY(MEMORY_DECODED, "decoded-requests", M_DECODE_BYTES, "queued.max.request.bytes", c->queued_max_request_bytes,
       "What the few requests take that are of long lists, while they are worked on: decoded, and 128 bytes for what is done about each element. "
       "They wait for it; one for which all of it would not do is refused.")
MEMORY(MEMORY_CONVERSIONS, "conversions", M_CONVERSION_BYTES, "queued.max.request.bytes", c->queued_max_request_bytes,
       "Conversions of old message formats, half of it for those under way, half for what is on its way to readers. "
       "The former wait, the latter become small.")
MEMORY(MEMORY_ANSWERS, "answers", M_UNSENT_BYTES, "queued.max.response.bytes", c->queued_max_response_bytes,
       "Answers that clients have not taken yet, most of which lie in the caches, and long ones that are being made, which do not. The fuller it is, the less a fetch "
       "returns; when it is full, no further answer is begun that could be large, also of a fetch that has waited, long ones and large batches wait, "
       "and who takes less than 64 KiB in "
       "ten seconds is disconnected. Of an answer that alone would be more, the rest is refused where that can be said.")
MEMORY(MEMORY_UPLOADS, "uploads", M_UPLOAD_BYTES, "upload.bytes",
       smaller(2 * larger(c->upload_bytes, UPLOAD_ENTRY_MAX), c->cache_log_bytes),
       "Small batches that uploads under way have put together; large ones are sent from the log cache. When it is "
       "full the next upload waits for one to end.")
MEMORY(MEMORY_COMPACTION, "compaction", M_COMPACTION_BYTES, "compaction.bytes", c->compaction_bytes,
       "Parts of objects that are being merged.")
MEMORY(MEMORY_CLEANER, "log-compaction", M_CLEANER_BYTES, "log.cleaner.dedupe.buffer.size",
       c->log_cleaner_enable ? c->log_cleaner_dedupe_buffer_size + 2 * (int64_t)REPLACE_OBJECT_BYTES : 0,
       "Keys of the partition that is being compacted; what is read of it, unpacked and written.")
MEMORY(MEMORY_SESSIONS, "fetch-sessions", M_FETCH_SESSION_BYTES, "state.bytes", c->state_bytes / 16,
       "Fetch sessions (KIP-227). When it is full, those not used for two minutes go; else newcomers fetch without one.")
MEMORY(MEMORY_GROUPS, "groups", M_GROUP_BYTES, "state.bytes", c->state_bytes / 16 * 3,
       "Groups, their members and committed offsets, with their copies in the ledger's image. When it is full, new members get "
       "GROUP_MAX_SIZE_REACHED, and offsets of what had none INVALID_COMMIT_OFFSET_SIZE; those who are there go on.")
MEMORY(MEMORY_PRODUCERS, "producers", M_PRODUCER_BYTES, "state.bytes", c->state_bytes / 4,
       "The last batches of idempotent producers, by partition, until producer.id.expiration.ms. When it is full, who is new to a partition gets "
       "POLICY_VIOLATION; those who are known go on.")
MEMORY(MEMORY_PARTITIONS, "partitions", M_PARTITION_BYTES, "state.bytes", c->state_bytes / 2,
       "Open partitions. More than find room are not created: POLICY_VIOLATION.")
MEMORY(MEMORY_PROCESS, "process", METRIC_GAUGES, "", (32 + 12 * (int64_t)shards) * MEMORY_MIB,
       "The program, buffers of its threads and of the store's client, and what shards keep for the next request.")
/* clang-format on */
#undef MEMORY
