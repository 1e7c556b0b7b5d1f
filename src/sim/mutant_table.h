/* X(id, name, workloads that must notice, enum sim_store_broken, enum stream_mutant, sentence): deliberate mistakes. Included several times; no include guard on purpose. */
X(SIM_MUTANT_NONE, "none", "", SIM_STORE_SOUND, STREAM_MUTANT_NONE, "no mistake")
X(SIM_MUTANT_UNKNOWN_IS_OK, "unknown-is-ok", "objlog clusterlog", SIM_STORE_UNKNOWN_IS_OK, STREAM_MUTANT_NONE,
  "a PUT whose answer was lost is taken for done")
X(SIM_MUTANT_EXISTS_IS_OK, "exists-is-ok", "objlog clusterlog rivals", SIM_STORE_EXISTS_IS_OK, STREAM_MUTANT_NONE,
  "an object that lies there is taken for one's own without a look")
X(SIM_MUTANT_NO_CONDITION, "no-condition", "objlog clusterlog", SIM_STORE_NO_CONDITION, STREAM_MUTANT_NONE,
  "the store ignores the condition of a conditional create")
X(SIM_MUTANT_NO_LIST_CHECK, "no-list-check", "objlog clusterlog", SIM_STORE_LIST_BLIND, STREAM_MUTANT_NONE,
  "a takeover is believed without the LIST that must follow it")
X(SIM_MUTANT_TRIM_EARLY, "trim-early", "objlog clusterlog", SIM_STORE_SOUND, STREAM_MUTANT_NONE,
  "numbers are deleted as soon as a checkpoint is durable, before an entry carries it")
X(SIM_MUTANT_TRIM_TOO_MUCH, "trim-too-much", "objlog clusterlog", SIM_STORE_SOUND, STREAM_MUTANT_NONE,
  "numbers at and above the boundary are deleted")
X(SIM_MUTANT_ACK_EARLY, "ack-early", "objlog clusterlog", SIM_STORE_SOUND, STREAM_MUTANT_NONE,
  "an append is acknowledged when it is sent")
/* A ledger's fence ends it: there is no later entry that could let it be trimmed. */
X(SIM_MUTANT_FORGET_FENCES, "forget-fences", "clusterlog", SIM_STORE_SOUND, STREAM_MUTANT_NONE,
  "fences and elections below the boundary are deleted though others can still write")
X(SIM_MUTANT_NO_FLUSH, "no-flush", "wal streams", SIM_STORE_SOUND, STREAM_MUTANT_NO_FLUSH,
  "WAL writes are confirmed that nothing has flushed")
X(SIM_MUTANT_NO_DIR_SYNC, "no-dir-sync", "wal streams", SIM_STORE_SOUND, STREAM_MUTANT_NO_DIR_SYNC,
  "the name of a new WAL file is not made durable")
X(SIM_MUTANT_SKIP_PAD, "skip-pad", "wal", SIM_STORE_SOUND, STREAM_MUTANT_SKIP_PAD,
  "the rest of a lap of the WAL is left as it is")
X(SIM_MUTANT_NO_MARK, "no-mark", "wal", SIM_STORE_SOUND, STREAM_MUTANT_NO_MARK,
  "the takeover mark is not read before groups are confirmed")
X(SIM_MUTANT_KEEP_TORN, "keep-torn", "wal", SIM_STORE_SOUND, STREAM_MUTANT_KEEP_TORN,
  "records of a torn group are kept though their checksum is wrong")
X(SIM_MUTANT_KEEP_STALE, "keep-stale", "wal", SIM_STORE_SOUND, STREAM_MUTANT_KEEP_STALE,
  "groups of an earlier lap or incarnation are taken for new ones")
X(SIM_MUTANT_REUSE_EARLY, "reuse-early", "wal", SIM_STORE_SOUND, STREAM_MUTANT_REUSE_EARLY,
  "WAL space is used again before the superblock that frees it is durable")
X(SIM_MUTANT_WAL_TRIM_EARLY, "wal-trim-early", "streams", SIM_STORE_SOUND, STREAM_MUTANT_TRIM_EARLY,
  "the WAL is trimmed before the upload has landed")
X(SIM_MUTANT_FORGET_PRODUCERS, "forget-producers", "streams", SIM_STORE_SOUND, STREAM_MUTANT_FORGET_PRODUCERS,
  "ledger entries say nothing of producers")
X(SIM_MUTANT_RANGES_OFF, "ranges-off", "streams", SIM_STORE_SOUND, STREAM_MUTANT_RANGES_OFF,
  "ranges point to where the entry's first piece lies")
X(SIM_MUTANT_DELETE_LOG, "delete-log", "streams broker", SIM_STORE_SOUND, STREAM_MUTANT_DELETE_LOG,
  "ledger entries are deleted while they are still log")
X(SIM_MUTANT_FORGET_TOMBSTONES, "forget-tombstones", "streams", SIM_STORE_SOUND, STREAM_MUTANT_FORGET_TOMBSTONES,
  "ledger entries do not say which keys of a table were deleted")
X(SIM_MUTANT_OLD_STATES, "old-states", "streams", SIM_STORE_SOUND, STREAM_MUTANT_OLD_STATES,
  "a checkpoint names the old state of what has changed")
X(SIM_MUTANT_CHANGE_EARLY, "change-early", "streams", SIM_STORE_SOUND, STREAM_MUTANT_CHANGE_EARLY,
  "a stream changes its durability before all of it is in the ledger")
X(SIM_MUTANT_NO_DRAIN, "no-drain", "streams", SIM_STORE_SOUND, STREAM_MUTANT_NO_DRAIN,
  "a checkpoint does not wait for the entries before it")
X(SIM_MUTANT_SWEEP_FENCES, "sweep-fences", "rivals", SIM_STORE_SOUND, STREAM_MUTANT_SWEEP_FENCES,
  "fences of dead brokers' ledgers are swept though these may still write")
X(SIM_MUTANT_ACK_UNSENT, "ack-unsent", "streams rivals broker group", SIM_STORE_SOUND, STREAM_MUTANT_ACK_UNSENT,
  "what the ledger confirms is acknowledged when it is sent")
