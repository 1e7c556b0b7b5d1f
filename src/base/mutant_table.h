/* X(id, name, workloads that must notice, sentence): deliberate mistakes. Included several times; no include guard on
 * purpose. */
X(NONE, "none", "", "no mistake")
/* The object log. */
X(UNKNOWN_IS_OK, "unknown-is-ok", "objlog clusterlog", "a PUT whose answer was lost is taken for done")
X(UNKNOWN_IS_FAILURE, "unknown-is-failure", "objlog clusterlog streams",
  "a PUT whose answer was lost is taken for one that did nothing")
X(OTHER_BYTES, "other-bytes", "objlog clusterlog", "a PUT that is repeated has another nonce than before")
X(EXISTS_IS_OK, "exists-is-ok", "objlog clusterlog rivals",
  "an object that lies there is taken for one's own without a look")
X(NO_CONDITION, "no-condition", "objlog clusterlog", "entries are put without the condition that nothing lies there")
X(NO_LIST_CHECK, "no-list-check", "objlog clusterlog", "a takeover is believed without the LIST that must follow it")
X(NO_PREDECESSOR, "no-predecessor", "clusterlog", "a replay does not compare the predecessor that an entry names")
X(IGNORE_HOLE, "ignore-hole", "objlog clusterlog", "a replay goes on behind a number that is missing")
X(TRIM_EARLY, "trim-early", "objlog clusterlog",
  "numbers are deleted as soon as a checkpoint is durable, before an entry carries it")
X(TRIM_TOO_MUCH, "trim-too-much", "objlog clusterlog", "numbers at and above the boundary are deleted")
X(ACK_EARLY, "ack-early", "objlog", "an append is acknowledged once it lies there, whatever lies before it")
X(FORGET_FENCES, "forget-fences", "clusterlog",
  "fences and elections below the boundary are deleted though others can still write")
/* The WAL. */
X(NO_FLUSH, "no-flush", "wal streams", "WAL writes are confirmed that nothing has flushed")
X(NO_DIR_SYNC, "no-dir-sync", "wal streams", "the name of a new WAL file is not made durable")
X(SKIP_PAD, "skip-pad", "wal", "the rest of a lap of the WAL is left as it is")
X(NO_MARK, "no-mark", "wal mirror", "the takeover mark is not read before groups are confirmed")
X(NO_WAL_CLAIM, "no-wal-claim", "group mirror",
  "a WAL that other machines reach is begun anew without a claim of its id")
X(KEEP_TORN, "keep-torn", "wal", "records of a torn group are kept though their checksum is wrong")
X(KEEP_STALE, "keep-stale", "wal", "groups of an earlier lap or incarnation are taken for new ones")
X(REUSE_EARLY, "reuse-early", "wal", "WAL space is used again before the superblock that frees it is durable")
X(ONE_SUPERBLOCK, "one-superblock", "wal", "the newest superblock of the WAL is overwritten in place")
X(REWRITE_SECTOR, "rewrite-sector", "wal streams", "a WAL group begins in the sector in which the one before it ends")
X(REUSE_FAILED, "reuse-failed", "wal",
  "a WAL write that failed is taken for one that did nothing: its place is used again")
X(IGNORE_LOST_GROUP, "ignore-lost-group", "wal", "a replay of the WAL goes on behind a group that is missing")
/* The mirrored WAL. */
X(MIRROR_SHRUNK_SILENTLY, "mirror-shrunk-silently", "mirror",
  "a mirrored WAL goes on without a lost member before the smaller membership is durable")
X(MIRROR_FIRST_CONFIRMS, "mirror-first-confirms", "mirror",
  "a mirrored WAL confirms a group when one of its members has it")
X(JOIN_LAGGING, "join-lagging", "mirror",
  "a member that comes back is named in the ledger before it has all that has been acknowledged")
X(FORMAT_OTHERS, "format-others", "mirror", "a mirrored WAL begins the ring of another broker anew")
X(MEMBER_UNKNOWN_IS_OK, "member-unknown-is-ok", "mirror",
  "a PUT of a mirror's object log whose answer was lost is taken for done")
X(IGNORE_OBJECTS, "ignore-objects", "mirror", "a recovery does not read the object log of a mirrored WAL")
X(OBJECTS_TRIM_EARLY, "objects-trim-early", "mirror",
  "the object log of a mirror is trimmed to what it has confirmed")
X(BELIEVE_DROPPED, "believe-dropped", "mirror", "a recovery believes a member that the membership no longer names")
/* The storage engine. */
X(WAL_TRIM_EARLY, "wal-trim-early", "streams", "the WAL is trimmed before the upload has landed")
X(FORGET_PRODUCERS, "forget-producers", "streams", "ledger entries say nothing of producers")
X(RANGES_OFF, "ranges-off", "streams", "ranges point to where the entry's first piece lies")
X(DELETE_LOG, "delete-log", "streams broker", "ledger entries are deleted while they are still log")
X(FORGET_TOMBSTONES, "forget-tombstones", "streams", "ledger entries do not say which keys of a table were deleted")
X(OLD_STATES, "old-states", "streams", "a checkpoint names the old state of what has changed")
X(CHANGE_EARLY, "change-early", "streams", "a stream changes its durability before all of it is in the ledger")
X(NO_DRAIN, "no-drain", "streams", "a checkpoint does not wait for the entries before it")
X(SWEEP_FENCES, "sweep-fences", "rivals", "fences of dead brokers' ledgers are swept though these may still write")
X(ACK_UNSENT, "ack-unsent", "streams rivals broker group", "what the ledger confirms is acknowledged when it is sent")
X(CACHE_ORDER, "cache-order", "streams broker", "the log cache has records in another order than the WAL")
X(TRIM_UNSAVED, "trim-unsaved", "streams", "a new log start offset is shown before it is durable")
X(SHOW_EARLY, "show-early", "streams rivals broker", "the high watermark is what was appended, durable or not")
X(TIME_INDEX, "time-index", "streams", "a block whose newest timestamp is the one asked for is passed over")
X(SKIP_FENCE, "skip-fence", "rivals", "a takeover does not fence its predecessor's ledger")
X(SAME_EPOCH, "same-epoch", "streams", "the leader epoch does not rise with a takeover")
X(FORGET_TRIMS, "forget-trims", "streams", "ledger entries and recoveries leave new log start offsets out")
X(FORGET_ROLLS, "forget-rolls", "streams", "ledger entries do not say where segments begin")
X(OFFSET_32, "offset-32", "streams", "the index of an object has offsets of 32 bits")
X(NAME_TWICE, "name-twice", "streams", "two data objects are given one name")
X(DATA_LATE, "data-late", "streams", "a ledger entry is written before the data objects that it names")
X(LIVE_CHECKPOINT, "live-checkpoint", "streams",
  "a checkpoint says where the partition ends in memory, which is ahead of the ledger")
X(DELETE_EARLY, "delete-early", "streams", "merged objects are deleted before the entry that replaces them")
X(MERGED_LATE, "merged-late", "streams", "an entry replaces ranges before the object with the new ones is there")
X(COMPOSED_OFF, "composed-off", "streams", "the index of an object that the store put together has the old ones' positions")
X(POOR_DROPS, "poor-drops", "streams",
  "objects of which little is needed are rewritten without one stream's part, and deleted")
X(SWEEP_USED, "sweep-used", "streams", "a sweep deletes what ranges still point to")
X(SWEEP_LIVING, "sweep-living", "streams rivals", "a sweep takes for dead what this broker has put and not named yet")
X(REFUSED_BLOCKS, "refused-blocks", "streams", "an object that cannot be deleted holds up the others")
X(REFUSED_FORGOTTEN, "refused-forgotten", "streams", "an object that could not be deleted is not tried again")
X(UPLOADS_KEPT, "uploads-kept", "streams", "a sweep leaves what earlier incarnations began in parts and did not finish")
X(FREE_UNCOMMITTED, "free-uncommitted", "streams",
  "what a recovery makes superfluous is deleted before the cluster log knows of the recovery")
X(LOSE_SECTION, "lose-section", "streams", "a recovery applies only the first section of an entry")
X(CACHE_KEY, "cache-key", "streams", "the block cache does not tell the objects of one broker apart")
X(FIRST_BLOCK, "first-block", "streams", "of blocks that come in one GET a reader is given another's bytes")
X(AHEAD_LEAK, "ahead-leak", "streams", "read-ahead that goes unused does not give back what it took of its budget")
/* The cluster log. */
X(COMMIT_EARLY, "commit-early", "broker", "a commit to the cluster log is acknowledged before it is durable")
X(FORGET_CONFIGS, "forget-configs", "broker", "snapshots of the cluster leave the overrides of topics out")
X(FORGET_PARTITIONS, "forget-partitions", "broker", "snapshots of the cluster leave out partitions that were added")
X(SAME_STREAMS, "same-streams", "broker", "a new topic gets the streams of one that was deleted")
/* Partitions and requests. */
X(PRODUCE_EARLY, "produce-early", "broker", "produce requests are answered before the records are durable")
X(DUPLICATE_EARLY, "duplicate-early", "broker", "a repetition is answered before its original is durable")
X(NO_SEQUENCES, "no-sequences", "broker", "sequence numbers are not looked at: a repetition is appended again")
X(SEQUENCE_GAPS, "sequence-gaps", "broker", "a batch whose sequence number does not follow the last one is appended")
X(CLIENT_TIME, "client-time", "broker", "records of a topic with LogAppendTime keep the times that producers gave them")
X(STAMP_AGAIN, "stamp-again", "broker", "a repetition is told the time of its arrival, not that of the append")
X(FETCH_AHEAD, "fetch-ahead", "broker", "a fetch gives records above the high watermark")
X(RETAIN_LESS, "retain-less", "broker", "retention deletes one segment too many")
X(TOMBSTONE_EARLY, "tombstone-early", "compacted", "log compaction drops a tombstone before its horizon")
X(CLEAN_OLDEST, "clean-oldest", "compacted group", "log compaction keeps an older record of a key in place of the newest")
X(CLEAN_PROGRESS_EARLY, "clean-progress-early", "compacted",
  "how far log compaction has come is written before what it removed is replaced")
X(PRODUCER_TWICE, "producer-twice", "broker", "producer ids that an earlier start gave out are given out again")
X(ACCUSE_STALE, "accuse-stale", "broker group",
  "a broker answers from memory without a look whether it has been overtaken")
/* Coordinators of groups. */
X(OFFSETS_EARLY, "offsets-early", "broker group", "offset commits are answered before they are durable")
X(GROUP_EARLY, "group-early", "group", "generations and assignments are told before they are durable")
X(SAME_GENERATION, "same-generation", "group", "a rebalance does not raise the generation")
X(TWO_LEADERS, "two-leaders", "group", "every member of a generation is told that it leads")
X(SYNC_ANY, "sync-any", "group", "SyncGroup gives an assignment to a member that names another generation")
X(COMMIT_ANY, "commit-any", "group", "offset commits of members that name another generation are taken")
X(OFFSETS_BY_NAME, "offsets-by-name", "broker",
  "committed offsets belong to a name: they outlive their topic, and count for the next one of that name")
X(LOAD_LESS, "load-less", "broker group", "a coordinator that is loaded leaves its newest record out")
X(FORGET_GROUPS, "forget-groups", "group", "a coordinator that is loaded has offsets and no groups")
