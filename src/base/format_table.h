/* X(name, id, text, oldest, newest, position, width): every format that is stored, once. Versions from oldest to newest are read;
 * the newest is what this program may write. Where the bytes say which it is: so many bytes, little-endian, at that position;
 * width 0: not as an integer there. A *kind* counts as a version: a kind that is not known may mean anything.
 *
 * Raise a number here, and tests/integration/test_upgrade.py asks for a fixture that holds it (tests/fixtures). Included
 * several times by format.h and format.c; no include guard on purpose. */
X(STORE_FOLDER, "store-folder", "the marker of the store's folder", 1, 1, 0, 0)
X(CLUSTER_OBJECT, "cluster-object", "the object that names the cluster", 1, 1, 4, 2)
X(LOG_ENTRY, "log-entry", "an entry of the cluster log or of a ledger", 1, 1, 4, 2)
X(LOG_ENTRY_KIND, "log-entry-kind", "a kind of entries of the cluster log or of a ledger", 1, 4, 6, 2)
X(CLUSTER_RECORD, "cluster-record", "a record of the cluster log", 1, 1, 2, 2)
X(CLUSTER_RECORD_KIND, "cluster-record-kind", "a kind of records of the cluster log", 1, 9, 0, 2)
X(CLUSTER_SNAPSHOT, "cluster-snapshot", "a snapshot of the cluster log", 1, 2, 0, 2)
X(LEDGER_HEAD, "ledger-head", "the head of a ledger entry", 1, 2, 0, 2)
X(LEDGER_SECTION_KIND, "ledger-section-kind", "a kind of sections of a ledger entry", 1, 3, 12, 4)
X(STATE, "partition-state", "a partition's state", 1, 3, 0, 1)
X(DATA_OBJECT, "data-object", "a data object", 1, 2, 4, 2)
X(OFFSET_VALUE, "offset-value", "a committed offset in __consumer_offsets", 0, 4, 0, 0)
X(GROUP_VALUE, "group-value", "a group in __consumer_offsets", 0, 4, 0, 0)
X(WAL_SUPERBLOCK, "wal-superblock", "the superblock of a WAL", 1, 1, 8, 4)
X(WAL_GROUP, "wal-group", "a group of a WAL", 1, 1, 4, 2)
X(WAL_GROUP_KIND, "wal-group-kind", "a kind of groups of a WAL", 1, 2, 6, 2)
X(WAL_RECORD_TYPE, "wal-record-type", "a type of records of a WAL", 1, 2, 8, 1)
X(MIRROR_LOG, "mirror-log", "the head of an entry of a mirror's object log", 1, 1, 8, 4)
X(WAL_MARK, "wal-mark", "the takeover mark of a WAL", 1, 1, 8, 4)
X(WAL_CLAIM, "wal-claim", "the claim of a WAL", 1, 1, 8, 4)
