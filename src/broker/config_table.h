/* Every property of a broker, once: type, field of `struct config`, name, default, limits, one sentence. The struct, the parser,
 * `oxbow config` and docs/configuration.md come from it. Included several times; no include guard on purpose.
 *
 *   CONFIG_SECTION(title)
 *   CONFIG_BOOL  (field, name, default, text)
 *   CONFIG_INT   (field, name, default, min, max, text)        32 bits
 *   CONFIG_LONG  (field, name, default, min, max, text)        64 bits
 *   CONFIG_DOUBLE(field, name, default text, min, max, text)   max CONFIG_LONG_MAX: none
 *   CONFIG_COUNT (field, name, min, max, text)                 int or "auto" (0 in the struct), which is the default
 *   CONFIG_SIZE  (field, name, default, min, max, text)        bytes, 64 bits; the value may end in KiB, MiB, GiB or TiB
 *   CONFIG_STRING(field, name, default, text)
 *   CONFIG_LIST  (field, name, default, values, text)          comma-separated; each one of `values` ("a|b"), or anything for ""
 *   CONFIG_ENUM  (field, name, default, values, text)          in the struct: the index in `values`
 *   CONFIG_ALIAS (name, of, factor, rank)                      another name of `of`, in units of `factor`; see config.h
 *
 * Where Kafka has a name for a thing, it is Kafka's, with Kafka's meaning, limits and default. */
/* clang-format off */
#define CONFIG_INT_MAX 2147483647
#define CONFIG_LONG_MAX INT64_MAX
#define CONFIG_KIB ((int64_t)1 << 10)
#define CONFIG_MIB ((int64_t)1 << 20)
#define CONFIG_GIB ((int64_t)1 << 30)
#define CONFIG_TIB ((int64_t)1 << 40)

CONFIG_SECTION("The broker and its network")
CONFIG_INT(node_id, "node.id", 1, 0, CONFIG_INT_MAX, "The id of this broker in the cluster, as clients see it.")
CONFIG_ALIAS("broker.id", "node.id", 1, 1)
CONFIG_LIST(listeners, "listeners", "PLAINTEXT://127.0.0.1:9092", "",
            "Where the broker listens: `NAME://host:port`, separated by commas. An empty host or 0.0.0.0 means all addresses, port 0 any free one.")
CONFIG_LIST(advertised_listeners, "advertised.listeners", "", "",
            "What clients are told to connect to, by listener name; empty: the same as `listeners`.")
CONFIG_STRING(broker_rack, "broker.rack", "", "The rack or zone of this broker, for clients that read from the nearest.")
CONFIG_INT(max_connections, "max.connections", CONFIG_INT_MAX, 0, CONFIG_INT_MAX,
           "Client connections that may be open at once; more are closed as soon as they are accepted.")
CONFIG_INT(max_connections_per_ip, "max.connections.per.ip", CONFIG_INT_MAX, 0, CONFIG_INT_MAX,
           "Client connections that may be open at once from one address.")
CONFIG_LONG(connections_max_idle_ms, "connections.max.idle.ms", 600000, -1, CONFIG_LONG_MAX,
            "A connection without a request for so long is closed; -1: never.")
CONFIG_INT(socket_request_max_bytes, "socket.request.max.bytes", 104857600, 1, CONFIG_INT_MAX,
           "The largest request that is read; a client that announces more is disconnected.")
CONFIG_SIZE(queued_max_request_bytes, "queued.max.request.bytes", 256 * CONFIG_MIB, CONFIG_MIB, CONFIG_TIB,
            "Memory for requests that are being received or wait, of all clients together; beyond it sockets are not read. As much again for converting old message formats.")

CONFIG_SIZE(queued_max_response_bytes, "queued.max.response.bytes", 64 * CONFIG_MIB, CONFIG_MIB, CONFIG_TIB,
            "Answers that clients have not taken yet, of all clients together. The more there is, the less a fetch returns; beyond it no further answer is begun "
            "that could be large, and clients that do not read what they asked for are disconnected.")

CONFIG_SECTION("Topics")
CONFIG_BOOL(auto_create_topics_enable, "auto.create.topics.enable", true,
            "Create a topic when a client that permits it asks for one that does not exist.")
CONFIG_BOOL(delete_topic_enable, "delete.topic.enable", true, "Allow topics to be deleted.")
CONFIG_INT(num_partitions, "num.partitions", 1, 1, CONFIG_INT_MAX, "Partitions of a topic that is created without a number.")
CONFIG_INT(default_replication_factor, "default.replication.factor", 1, 1, 32767,
           "Replication factor of a topic that is created without one. Durability comes from the object store, not from it.")
CONFIG_INT(min_insync_replicas, "min.insync.replicas", 1, 1, CONFIG_INT_MAX,
           "Told to clients that ask; a record is acknowledged when it is durable, whatever this says.")

CONFIG_SECTION("Records: the defaults of topics")
CONFIG_INT(message_max_bytes, "message.max.bytes", 1048588, 0, CONFIG_INT_MAX, "The largest record batch that is accepted (topic: `max.message.bytes`).")
CONFIG_ENUM(compression_type, "compression.type", "producer", "producer|uncompressed|gzip|snappy|lz4|zstd",
            "The codec in which batches are kept (topic: `compression.type`); `producer` keeps what the producer chose.")
CONFIG_INT(compression_gzip_level, "compression.gzip.level", -1, -1, 9, "The level at which the broker compresses with gzip; -1: the codec's own.")
CONFIG_INT(compression_lz4_level, "compression.lz4.level", 9, 1, 17, "The level at which the broker compresses with lz4.")
CONFIG_INT(compression_zstd_level, "compression.zstd.level", 3, -131072, 22, "The level at which the broker compresses with zstd.")
CONFIG_ENUM(log_message_timestamp_type, "log.message.timestamp.type", "CreateTime", "CreateTime|LogAppendTime",
            "Whether a record keeps its producer's time or gets the broker's (topic: `message.timestamp.type`).")
CONFIG_LONG(log_message_timestamp_before_max_ms, "log.message.timestamp.before.max.ms", CONFIG_LONG_MAX, 0, CONFIG_LONG_MAX,
            "How far a record's time may lie before the broker's (topic: `message.timestamp.before.max.ms`).")
CONFIG_LONG(log_message_timestamp_after_max_ms, "log.message.timestamp.after.max.ms", 3600000, 0, CONFIG_LONG_MAX,
            "How far a record's time may lie after the broker's (topic: `message.timestamp.after.max.ms`).")
CONFIG_ENUM(oxbow_durability, "oxbow.durability", "wal", "wal|object",
            "What a record waits for before it is acknowledged: `wal`, the write-ahead log if there is one; `object`, the object store (topic: `oxbow.durability`).")
CONFIG_INT(producer_id_expiration_ms, "producer.id.expiration.ms", 86400000, 1, CONFIG_INT_MAX,
           "How long the sequence numbers of a silent idempotent producer are remembered.")

CONFIG_SECTION("Retention: the defaults of topics")
CONFIG_LIST(log_cleanup_policy, "log.cleanup.policy", "delete", "delete|compact", "What happens to old records (topic: `cleanup.policy`).")
CONFIG_LONG(log_retention_ms, "log.retention.ms", 604800000, -1, CONFIG_LONG_MAX, "How long records are kept (topic: `retention.ms`); -1: for ever.")
CONFIG_ALIAS("log.retention.minutes", "log.retention.ms", 60000, 1)
CONFIG_ALIAS("log.retention.hours", "log.retention.ms", 3600000, 2)
CONFIG_LONG(log_retention_bytes, "log.retention.bytes", -1, -1, CONFIG_LONG_MAX,
            "How much of a partition is kept (topic: `retention.bytes`); -1: everything.")
CONFIG_INT(log_segment_bytes, "log.segment.bytes", 1073741824, 14, CONFIG_INT_MAX,
           "Retention drops a partition's records in parts of this size (topic: `segment.bytes`).")
CONFIG_LONG(log_roll_ms, "log.roll.ms", 604800000, 1, CONFIG_LONG_MAX, "A part is closed at this age even if it is small (topic: `segment.ms`).")
CONFIG_ALIAS("log.roll.hours", "log.roll.ms", 3600000, 1)
CONFIG_LONG(log_roll_jitter_ms, "log.roll.jitter.ms", 0, 0, CONFIG_LONG_MAX,
            "At most so much is taken off `log.roll.ms`, at random, so that not all parts close at once (topic: `segment.jitter.ms`).")
CONFIG_ALIAS("log.roll.jitter.hours", "log.roll.jitter.ms", 3600000, 1)
CONFIG_LONG(log_retention_check_interval_ms, "log.retention.check.interval.ms", 300000, 1, CONFIG_LONG_MAX,
            "How often partitions are looked at for records that need not be kept.")

CONFIG_SECTION("Log compaction")
CONFIG_BOOL(log_cleaner_enable, "log.cleaner.enable", true, "Compact topics with `cleanup.policy=compact`, `__consumer_offsets` among them.")
CONFIG_LONG(log_cleaner_dedupe_buffer_size, "log.cleaner.dedupe.buffer.size", 128 * CONFIG_MIB, CONFIG_MIB, CONFIG_TIB,
            "Memory for the keys of the partition that is being compacted, 24 bytes each, taken while that lasts; what has more keys is compacted in several passes.")
CONFIG_DOUBLE(log_cleaner_io_buffer_load_factor, "log.cleaner.io.buffer.load.factor", "0.9", 0, 1, "The share of that memory which is filled.")
CONFIG_DOUBLE(log_cleaner_io_max_bytes_per_second, "log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308", 0, CONFIG_LONG_MAX,
              "The most that compaction reads from and writes to the object store in a second.")
CONFIG_LONG(log_cleaner_backoff_ms, "log.cleaner.backoff.ms", 15000, 0, CONFIG_LONG_MAX, "How long compaction rests when there was nothing to do.")
CONFIG_DOUBLE(log_cleaner_min_cleanable_ratio, "log.cleaner.min.cleanable.ratio", "0.5", 0, 1,
              "The share of not yet compacted bytes from which a partition is compacted (topic: `min.cleanable.dirty.ratio`).")
CONFIG_LONG(log_cleaner_min_compaction_lag_ms, "log.cleaner.min.compaction.lag.ms", 0, 0, CONFIG_LONG_MAX,
            "How long a record stays out of compaction's reach (topic: `min.compaction.lag.ms`).")
CONFIG_LONG(log_cleaner_max_compaction_lag_ms, "log.cleaner.max.compaction.lag.ms", CONFIG_LONG_MAX, 1, CONFIG_LONG_MAX,
            "The longest that a record may escape compaction (topic: `max.compaction.lag.ms`).")
CONFIG_LONG(log_cleaner_delete_retention_ms, "log.cleaner.delete.retention.ms", 86400000, 0, CONFIG_LONG_MAX,
            "How long compaction keeps the tombstone of a deleted key (topic: `delete.retention.ms`).")

CONFIG_SECTION("Fetching")
CONFIG_INT(fetch_max_bytes, "fetch.max.bytes", 57671680, 1024, CONFIG_INT_MAX, "The most that one answer to a fetch carries, whatever the client allows.")
CONFIG_INT(max_incremental_fetch_session_cache_slots, "max.incremental.fetch.session.cache.slots", 1000, 0, CONFIG_INT_MAX,
           "Incremental fetch sessions that are kept at once.")

CONFIG_SECTION("Consumer groups")
CONFIG_INT(group_initial_rebalance_delay_ms, "group.initial.rebalance.delay.ms", 3000, 0, CONFIG_INT_MAX,
           "How long the first rebalance of an empty group waits for more members.")
CONFIG_INT(group_min_session_timeout_ms, "group.min.session.timeout.ms", 6000, 1, CONFIG_INT_MAX, "The shortest session time-out that a member may ask for.")
CONFIG_INT(group_max_session_timeout_ms, "group.max.session.timeout.ms", 1800000, 1, CONFIG_INT_MAX, "The longest session time-out that a member may ask for.")
CONFIG_INT(group_max_size, "group.max.size", CONFIG_INT_MAX, 1, CONFIG_INT_MAX, "Members that one group may have.")
CONFIG_INT(offsets_topic_num_partitions, "offsets.topic.num.partitions", 50, 1, 100000,
           "Partitions of `__consumer_offsets`; counts when the topic is made.")
CONFIG_INT(offsets_topic_replication_factor, "offsets.topic.replication.factor", 3, 1, 32767,
           "Replication factor of `__consumer_offsets`: remembered, for durability comes from the object store.")
CONFIG_INT(offsets_topic_segment_bytes, "offsets.topic.segment.bytes", 104857600, 14, CONFIG_INT_MAX, "`segment.bytes` of `__consumer_offsets` when the topic is made.")
CONFIG_INT(offsets_retention_minutes, "offsets.retention.minutes", 10080, 1, CONFIG_INT_MAX,
           "Committed offsets are kept for so long after their group has become empty (of simple consumers: after the commit).")
CONFIG_LONG(offsets_retention_check_interval_ms, "offsets.retention.check.interval.ms", 600000, 1, CONFIG_LONG_MAX,
            "How often groups are looked at for offsets that need not be kept.")
CONFIG_INT(offset_metadata_max_bytes, "offset.metadata.max.bytes", 4096, 0, CONFIG_INT_MAX, "The most metadata that may be committed with an offset.")

CONFIG_SECTION("Storage")
CONFIG_STRING(storage_url, "storage.url", "file://./data/store",
              "The object store: `file://FOLDER`, or `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path.style=BOOL`; "
              "prefix and parameters may be left out (AWS, region of AWS_REGION or us-east-1). Keys come from the "
              "environment, the shared files, a web identity or the instance, as with AWS's own tools.")
CONFIG_STRING(wal_url, "wal.url", "file://./data/wal?size=1GiB",
              "The write-ahead log: `file://FOLDER-OR-FILE?size=1GiB` or `block:///dev/DEVICE`. `takeover=lock` (the default "
              "of files): only one machine can reach it at a time. `takeover=mark` (the default of devices): several can; "
              "unless the store is a folder it then needs `oxbow wal init` before its first use, and again after a start "
              "that did not end in order, until which records are acknowledged from the object store. "
              "`none`: there is none, and a record is acknowledged when it is in the object store. "
              "`mirror:URL,URL`: two to four of the former, of which each has everything before a record is acknowledged; with "
              "`takeover=mark` each needs its own `oxbow wal init`, and a start goes on with those that it may use. "
              "Members, beside one file or device at least, may also be object logs in other stores: `s3://BUCKET/PREFIX?...` as in storage.url, "
              "or `objects:file://FOLDER`; acknowledgements wait for their PUTs. "
              "A further element `?lost=shrink&timeout.ms=5000` says what happens when one of them fails or takes longer: "
              "`shrink`, the others go on; `stop`, records are acknowledged from the object store until all are there again.")
CONFIG_SIZE(cache_log_bytes, "cache.log.bytes", 256 * CONFIG_MIB, 8 * CONFIG_MIB, CONFIG_TIB,
            "Memory for records that are not uploaded yet or were written lately; when it is full of the former, producers wait.")
CONFIG_SIZE(cache_block_bytes, "cache.block.bytes", 128 * CONFIG_MIB, CONFIG_MIB, CONFIG_TIB, "Memory for blocks read back from the object store.")
CONFIG_SIZE(read_ahead_bytes, "read.ahead.bytes", 64 * CONFIG_MIB, CONFIG_MIB, CONFIG_TIB,
            "How much of cache.block.bytes may be read ahead for all readers together, at most half of it. So much beside it "
            "may be held by answers on their way; then answers end with the block that they have.")
CONFIG_INT(read_requests_max, "read.requests.max", 16, 1, 1024,
           "Requests to the object store that may be under way at once for readers of old data; for a folder at most 4.")
CONFIG_SIZE(upload_bytes, "upload.bytes", 32 * CONFIG_MIB, 64 * CONFIG_KIB, 2048 * CONFIG_MIB,
            "Records are uploaded as soon as there are so many bytes of them. More means fewer and larger objects, less merging, and more that a recovery has to read.")
CONFIG_SIZE(compaction_bytes, "compaction.bytes", 256 * CONFIG_MIB, 128 * CONFIG_MIB, 64 * 1024 * CONFIG_MIB,
            "Memory for merging small parts of objects, used while there is something to merge. More means fewer and larger reads.")
CONFIG_SIZE(state_bytes, "state.bytes", 512 * CONFIG_MIB, 16 * CONFIG_MIB, CONFIG_TIB,
            "Memory for what clients make and leave behind: half of it for open partitions, a quarter for idempotent producers, three sixteenths for groups and "
            "committed offsets, the rest for fetch sessions. What finds no room is refused; what is there goes on.")
CONFIG_LONG(upload_interval_ms, "upload.interval.ms", 60000, 10, 3600000, "Records are uploaded at this age at the latest.")
CONFIG_LONG(object_flush_interval_ms, "object.flush.interval.ms", 0, 0, 3600000,
            "How often at most records that wait for the object store are sent there, unless there is much of them: "
            "fewer requests, at the price of latency. 0: at once when nothing is on its way, else in groups.")
CONFIG_INT(upload_wal_percent, "upload.wal.percent", 50, 1, 90, "Records are uploaded when they fill this share of the write-ahead log.")
CONFIG_LONG(checkpoint_interval_ms, "checkpoint.interval.ms", 300000, 10, CONFIG_LONG_MAX,
            "How long after a change to the ledger a checkpoint is written at the latest; it bounds the work of the next start.")

CONFIG_SECTION("The process")
CONFIG_SIZE(memory_bytes, "memory.bytes", 0, 0, CONFIG_TIB,
            "The sum of all budgets of memory (below). Those that are not set one by one share what the others leave, in the proportions of their defaults. "
            "0: they have their defaults, or less where the machine, or its control group, has not so much.")
CONFIG_STRING(http_listen, "http.listen", "", "Where metrics and health are served, `host:port`; empty: nowhere.")
CONFIG_ENUM(io_backend, "io.backend", "auto", "auto|uring|epoll", "How files are read and written: by io_uring, or by threads; `auto` takes io_uring where it works.")
CONFIG_COUNT(shards, "shards", 1, 256, "Threads that serve clients; `auto` chooses by the machine's processors.")
CONFIG_ENUM(log_level, "log.level", "info", "debug|info|warn|error|none", "The least important lines that are logged on standard error.")

#undef CONFIG_SECTION
#undef CONFIG_BOOL
#undef CONFIG_INT
#undef CONFIG_LONG
#undef CONFIG_DOUBLE
#undef CONFIG_COUNT
#undef CONFIG_SIZE
#undef CONFIG_STRING
#undef CONFIG_LIST
#undef CONFIG_ENUM
#undef CONFIG_ALIAS
#undef CONFIG_INT_MAX
#undef CONFIG_LONG_MAX
#undef CONFIG_KIB
#undef CONFIG_MIB
#undef CONFIG_GIB
#undef CONFIG_TIB
/* clang-format on */
