/* X(id, name, chance, sentence): everything that the simulator can do to a node on purpose. `chance` is the usual probability at each occasion; 0 means that
 * only workloads which ask for it get it. Included several times; no include guard on purpose. */
/* The object store. */
X(SIM_STORE_UNAVAILABLE, "store-unavailable", 0.05, "a request is refused (503) and nothing is done")
X(SIM_STORE_ANSWER_LOST, "store-answer-lost", 0.05, "a PUT lands and its answer is lost")
X(SIM_STORE_PUT_LATE, "store-put-late", 0.03, "a PUT times out and lands up to ten minutes later; a condition is judged then")
X(SIM_STORE_PUT_LOST, "store-put-lost", 0.03, "a PUT times out and never lands")
X(SIM_STORE_PUT_TWICE, "store-put-twice", 0.02, "a PUT succeeds and lands once more up to ten minutes later")
X(SIM_STORE_EXISTS_MINE, "store-exists-mine", 0.02, "a conditional PUT lands and is answered as if another had been first")
X(SIM_STORE_READ_FAILS, "store-read-fails", 0.04, "a GET or LIST gets no answer")
X(SIM_STORE_DELETE_UNKNOWN, "store-delete-unknown", 0.1, "a DELETE times out; some of its keys go, perhaps minutes later")
X(SIM_STORE_SLOW, "store-slow", 0.05, "a request takes seconds")
X(SIM_STORE_CRASH_LATE, "store-crash-late", 0.4, "a PUT in flight when its node crashes lands later")
X(SIM_STORE_LIST_LAGS, "store-list-lags", 0, "a new object is missing from LIST for up to a minute")
/* Files and block devices. */
X(SIM_DISK_WRITE_FAILS, "disk-write-fails", 0.002, "a write fails (EIO); each sector may have been written or not")
X(SIM_DISK_FULL, "disk-full", 0.01, "no space for a file that would grow")
X(SIM_DISK_READ_FAILS, "disk-read-fails", 0.002, "a read fails (EIO)")
X(SIM_DISK_SYNC_FAILS, "disk-sync-fails", 0.005, "a sync fails (EIO); what was dirty may be lost though later syncs succeed")
X(SIM_DISK_SLOW, "disk-slow", 0.02, "a request takes up to two seconds")
X(SIM_DISK_TEAR, "disk-tear", 0.3, "a sector in doubt at a crash is a mixture of old and new 512-byte units")
X(SIM_DISK_TEAR_UNIT, "disk-tear-unit", 0.1, "a torn sector has a unit that is old and new bytes")
X(SIM_DISK_LATE, "disk-late", 0.4, "a write to a shared device in flight when its node crashes lands later")
X(SIM_DISK_BIT_ROT, "disk-bit-rot", 0, "a bit of what is read has changed on the medium")
/* The network. */
X(SIM_NET_SLOW, "net-slow", 0.02, "bytes take up to three seconds")
X(SIM_NET_RESET, "net-reset", 0.002, "a connection is reset; what was under way may be lost")
X(SIM_NET_SILENT, "net-silent", 0.0005, "nothing that one end sends arrives any more, and nobody is told")
X(SIM_NET_REFUSED, "net-refused", 0.02, "a connection is refused")
X(SIM_NET_CUT, "net-cut", 0, "nothing from one node reaches another for a while")
/* Nodes. Workloads decide when; the table counts them. */
X(SIM_CRASH_KILL, "crash-kill", 0, "a process ends at once (kill -9)")
X(SIM_CRASH_POWER, "crash-power", 0, "a machine loses power")
X(SIM_PAUSE, "pause", 0, "a process stands still for a while")
