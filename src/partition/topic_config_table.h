/* Every configuration of a topic, once: Kafka's name, the broker property that gives its default, type, limits, default, one sentence. The struct, the
 * parser, DescribeConfigs and the documentation come from it. Included several times; no include guard on purpose.
 *
 * With a field in `struct topic_config` (the broker acts on them, or tells clients of them):
 *   TOPIC_INT (field, name, synonym, default, min, max, flags, text)      32 bits
 *   TOPIC_LONG(field, name, synonym, default, min, max, flags, text)      64 bits
 *   TOPIC_DOUBLE(field, name, synonym, default text, min, max, flags, text)
 *   TOPIC_ENUM(field, name, synonym, default index, values, flags, text)  one of "a|b"; in the struct its index
 *   TOPIC_BOOL(field, name, synonym, default, flags, text)                 32 bits, 0 or 1
 *   TOPIC_SET (field, name, synonym, default bits, values, flags, text)   comma-separated list of "a|b"; in the struct one bit each
 * Without one: checked, kept with the topic and shown again, and that is all:
 *   TOPIC_KEPT(id, name, synonym, type, default text, values, min, max, flags, text)
 *
 * Flags: EFFECT, the value takes effect now; OLD, Kafka 4 no longer knows the name, and it is listed only where it is set.
 * A synonym of "" means that there is none. */
#define TOPIC_INT_MAX 2147483647

TOPIC_SET(cleanup_policy, "cleanup.policy", "log.cleanup.policy", 1, "delete|compact", EFFECT,
          "What happens to old records: `delete` drops them by age and size, `compact` keeps the newest of each key; both may be given.")
TOPIC_INT(compression_gzip_level, "compression.gzip.level", "compression.gzip.level", -1, -1, 9, EFFECT,
          "The level at which the broker compresses when compression.type is gzip; -1: the codec's own.")
TOPIC_INT(compression_lz4_level, "compression.lz4.level", "compression.lz4.level", 9, 1, 17, EFFECT,
          "The level at which the broker compresses when compression.type is lz4.")
TOPIC_ENUM(compression_type, "compression.type", "compression.type", 0, "producer|uncompressed|gzip|snappy|lz4|zstd", EFFECT,
           "The codec in which batches are kept; `producer` keeps what the producer chose.")
TOPIC_INT(compression_zstd_level, "compression.zstd.level", "compression.zstd.level", 3, -131072, 22, EFFECT,
          "The level at which the broker compresses when compression.type is zstd.")
TOPIC_LONG(delete_retention_ms, "delete.retention.ms", "log.cleaner.delete.retention.ms", 86400000, 0, INT64_MAX, EFFECT,
           "How long compaction keeps the tombstone of a deleted key.")
TOPIC_KEPT(file_delete_delay_ms, "file.delete.delay.ms", "log.segment.delete.delay.ms", TOPIC_TYPE_LONG, "60000", "", 0, INT64_MAX, 0,
           "How long a deleted file stays; there are no such files here.")
TOPIC_KEPT(flush_messages, "flush.messages", "log.flush.interval.messages", TOPIC_TYPE_LONG, "9223372036854775807", "", 1, INT64_MAX, 0,
           "After how many records to flush; here every record is durable before it is acknowledged.")
TOPIC_KEPT(flush_ms, "flush.ms", "log.flush.interval.ms", TOPIC_TYPE_LONG, "9223372036854775807", "", 0, INT64_MAX, 0,
           "After how long to flush; here every record is durable before it is acknowledged.")
TOPIC_KEPT(follower_replication_throttled_replicas, "follower.replication.throttled.replicas", "", TOPIC_TYPE_LIST, "", "replicas", 0, 0, 0,
           "Replicas whose catching up is slowed down; nothing is copied between brokers here.")
TOPIC_KEPT(index_interval_bytes, "index.interval.bytes", "log.index.interval.bytes", TOPIC_TYPE_INT, "4096", "", 0, TOPIC_INT_MAX, 0,
           "How often an offset is entered into a file's index; objects have indexes of their own kind.")
TOPIC_KEPT(leader_replication_throttled_replicas, "leader.replication.throttled.replicas", "", TOPIC_TYPE_LIST, "", "replicas", 0, 0, 0,
           "Replicas towards which copying is slowed down; nothing is copied between brokers here.")
TOPIC_KEPT(local_retention_bytes, "local.retention.bytes", "log.local.retention.bytes", TOPIC_TYPE_LONG, "-2", "", -2, INT64_MAX, 0,
           "How much stays on local disks under tiered storage; there is no local tier here.")
TOPIC_KEPT(local_retention_ms, "local.retention.ms", "log.local.retention.ms", TOPIC_TYPE_LONG, "-2", "", -2, INT64_MAX, 0,
           "How long records stay on local disks under tiered storage; there is no local tier here.")
TOPIC_LONG(max_compaction_lag_ms, "max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", INT64_MAX, 1, INT64_MAX, EFFECT,
           "The longest that a record may escape compaction.")
TOPIC_INT(max_message_bytes, "max.message.bytes", "message.max.bytes", 1048588, 0, TOPIC_INT_MAX, EFFECT, "The largest record batch that is accepted.")
TOPIC_BOOL(message_downconversion_enable, "message.downconversion.enable", "log.message.downconversion.enable", true, EFFECT | OLD,
           "Whether batches are converted to old formats for old consumers; if not, they are answered with an error.")
TOPIC_KEPT(message_format_version, "message.format.version", "log.message.format.version", TOPIC_TYPE_STRING, "3.0-IV1", "", 0, 0, OLD,
           "The format in which records are kept; it is always the newest.")
TOPIC_LONG(message_timestamp_after_max_ms, "message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", 3600000, 0, INT64_MAX, EFFECT,
           "How far a record's time may lie after the broker's.")
TOPIC_LONG(message_timestamp_before_max_ms, "message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", INT64_MAX, 0, INT64_MAX, EFFECT,
           "How far a record's time may lie before the broker's.")
TOPIC_LONG(message_timestamp_difference_max_ms, "message.timestamp.difference.max.ms", "log.message.timestamp.difference.max.ms", INT64_MAX, 0, INT64_MAX,
           EFFECT | OLD, "How far a record's time may lie from the broker's, where the two newer limits are not set.")
TOPIC_ENUM(message_timestamp_type, "message.timestamp.type", "log.message.timestamp.type", 0, "CreateTime|LogAppendTime", EFFECT,
           "Whether a record keeps its producer's time or gets the broker's.")
TOPIC_DOUBLE(min_cleanable_dirty_ratio, "min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", "0.5", 0, 1, EFFECT,
           "The share of not yet compacted bytes from which a partition is compacted.")
TOPIC_LONG(min_compaction_lag_ms, "min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", 0, 0, INT64_MAX, EFFECT,
           "How long a record stays out of compaction's reach.")
TOPIC_INT(min_insync_replicas, "min.insync.replicas", "min.insync.replicas", 1, 1, TOPIC_INT_MAX, 0,
          "Told to clients that ask; a record is acknowledged when it is durable, whatever this says.")
TOPIC_ENUM(durability, "oxbow.durability", "oxbow.durability", 0, "wal|object", EFFECT,
           "What a record waits for before it is acknowledged: `wal`, the broker's write-ahead log if it has one; `object`, the object store.")
TOPIC_KEPT(preallocate, "preallocate", "log.preallocate", TOPIC_TYPE_BOOLEAN, "false", "", 0, 0, 0, "Whether to allocate files in advance; there are no such files here.")
TOPIC_KEPT(remote_log_copy_disable, "remote.log.copy.disable", "", TOPIC_TYPE_BOOLEAN, "false", "", 0, 0, 0,
           "Whether tiered storage takes no new records; everything lies in the object store here.")
TOPIC_KEPT(remote_log_delete_on_disable, "remote.log.delete.on.disable", "", TOPIC_TYPE_BOOLEAN, "false", "", 0, 0, 0,
           "Whether switching tiered storage off deletes what it holds; everything lies in the object store here.")
TOPIC_KEPT(remote_storage_enable, "remote.storage.enable", "", TOPIC_TYPE_BOOLEAN, "false", "", 0, 0, 0,
           "Whether tiered storage is used; everything lies in the object store here.")
TOPIC_LONG(retention_bytes, "retention.bytes", "log.retention.bytes", -1, INT64_MIN, INT64_MAX, EFFECT,
           "How much of a partition is kept when old records are deleted; -1: everything.")
TOPIC_LONG(retention_ms, "retention.ms", "log.retention.ms", 604800000, -1, INT64_MAX, EFFECT,
           "How long records are kept when old ones are deleted; -1: for ever.")
TOPIC_INT(segment_bytes, "segment.bytes", "log.segment.bytes", 1073741824, 14, TOPIC_INT_MAX, EFFECT,
          "Retention and compaction deal with a partition in parts of this size.")
TOPIC_KEPT(segment_index_bytes, "segment.index.bytes", "log.index.size.max.bytes", TOPIC_TYPE_INT, "10485760", "", 4, TOPIC_INT_MAX, 0,
           "The size of a file's index; objects have indexes of their own kind.")
TOPIC_LONG(segment_jitter_ms, "segment.jitter.ms", "log.roll.jitter.ms", 0, 0, INT64_MAX, EFFECT,
           "At most so much is taken off segment.ms, at random, so that not all parts close at once.")
TOPIC_LONG(segment_ms, "segment.ms", "log.roll.ms", 604800000, 1, INT64_MAX, EFFECT, "A part is closed at this age even if it is small.")
TOPIC_KEPT(unclean_leader_election_enable, "unclean.leader.election.enable", "unclean.leader.election.enable", TOPIC_TYPE_BOOLEAN, "false", "", 0, 0, 0,
           "Whether a partition may go on without records that cannot be reached.")

#undef TOPIC_INT
#undef TOPIC_LONG
#undef TOPIC_DOUBLE
#undef TOPIC_ENUM
#undef TOPIC_BOOL
#undef TOPIC_SET
#undef TOPIC_KEPT
#undef TOPIC_INT_MAX
