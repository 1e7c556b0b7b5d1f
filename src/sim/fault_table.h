/* X(id, name, chance, wal_file, wal_device, object, sentence): everything that the simulator can do to a node on
 * purpose. `chance` is the usual probability at each occasion; 0 means that only workloads which ask for it get it.
 * The three columns are the fault atlas (atlas.h): what each durability class promises under the fault. Included
 * several times; no include guard on purpose. */
/* The object store. */
X(SIM_STORE_UNAVAILABLE, "store-unavailable", 0.05, SURVIVES, SURVIVES, SURVIVES,
  "a request is refused (503) and nothing is done")
X(SIM_STORE_STORM, "store-storm", 0.002, SURVIVES, SURVIVES, SURVIVES,
  "for up to two minutes nine requests in ten are refused (503)")
X(SIM_STORE_ANSWER_LOST, "store-answer-lost", 0.05, SURVIVES, SURVIVES, SURVIVES, "a PUT lands and its answer is lost")
X(SIM_STORE_PUT_LATE, "store-put-late", 0.03, SURVIVES, SURVIVES, SURVIVES,
  "a PUT times out and lands up to ten minutes later; a condition is judged then")
X(SIM_STORE_PUT_LOST, "store-put-lost", 0.03, SURVIVES, SURVIVES, SURVIVES, "a PUT times out and never lands")
X(SIM_STORE_PUT_TWICE, "store-put-twice", 0.02, SURVIVES, SURVIVES, SURVIVES,
  "a PUT succeeds and lands once more up to ten minutes later")
X(SIM_STORE_EXISTS_MINE, "store-exists-mine", 0.02, SURVIVES, SURVIVES, SURVIVES,
  "a conditional PUT lands and is answered as if another had been first")
X(SIM_STORE_CONFLICT, "store-conflict", 0.02, SURVIVES, SURVIVES, SURVIVES,
  "a conditional PUT is answered 409: it races another, and nothing is done")
X(SIM_STORE_READ_FAILS, "store-read-fails", 0.04, SURVIVES, SURVIVES, SURVIVES, "a GET or LIST gets no answer")
X(SIM_STORE_GET_CUT, "store-get-cut", 0.02, SURVIVES, SURVIVES, SURVIVES, "the body of a GET breaks off in the middle")
X(SIM_STORE_DELETE_UNKNOWN, "store-delete-unknown", 0.1, SURVIVES, SURVIVES, SURVIVES,
  "a DELETE times out; some of its keys go, perhaps minutes later")
X(SIM_STORE_DELETE_REFUSED, "store-delete-refused", 0.005, SURVIVES, SURVIVES, SURVIVES,
  "an object cannot be deleted, for up to an hour; others of the same request are")
X(SIM_STORE_SLOW, "store-slow", 0.05, SURVIVES, SURVIVES, SURVIVES, "a request takes seconds")
X(SIM_STORE_TAIL, "store-tail", 0.01, SURVIVES, SURVIVES, SURVIVES,
  "a request's latency is drawn from a long tail, up to minutes; what outlasts its time-out may still be done")
X(SIM_STORE_CUT, "store-cut", 0.001, SURVIVES, SURVIVES, SURVIVES,
  "for up to two minutes nothing of a machine reaches the store, or nothing of the store reaches it")
X(SIM_STORE_CRASH_LATE, "store-crash-late", 0.4, SURVIVES, SURVIVES, SURVIVES,
  "a PUT in flight when its node crashes lands later")
X(SIM_STORE_NO_COPY, "store-no-copy", 0.3, SURVIVES, SURVIVES, SURVIVES,
  "the store copies no parts of objects into others, for the whole run")
X(SIM_STORE_LIST_LAGS, "store-list-lags", 0, OUTSIDE, OUTSIDE, OUTSIDE,
  "a new object is missing from LIST for up to a minute")
X(SIM_STORE_ROT, "store-rot", 0, DETECTS, DETECTS, DETECTS,
  "a bit of an object has changed, in the store or on its way")
/* Files and block devices. */
X(SIM_DISK_WRITE_FAILS, "disk-write-fails", 0.002, SURVIVES, SURVIVES, SURVIVES,
  "a write fails (EIO); each sector may have been written or not")
X(SIM_DISK_FULL, "disk-full", 0.01, SURVIVES, SURVIVES, SURVIVES,
  "for up to a minute there is no space for files that would grow")
X(SIM_DISK_READ_FAILS, "disk-read-fails", 0.002, SURVIVES, SURVIVES, SURVIVES, "a read fails (EIO)")
X(SIM_DISK_SYNC_FAILS, "disk-sync-fails", 0.005, SURVIVES, SURVIVES, SURVIVES,
  "a sync fails (EIO); what was dirty may be lost though later syncs succeed")
X(SIM_DISK_SLOW, "disk-slow", 0.02, SURVIVES, SURVIVES, SURVIVES, "a request takes up to two seconds")
X(SIM_DISK_STALL, "disk-stall", 0.0005, SURVIVES, SURVIVES, SURVIVES, "a request takes up to a minute")
X(SIM_DISK_TEAR, "disk-tear", 0.3, SURVIVES, SURVIVES, SURVIVES,
  "a sector in doubt at a crash is a mixture of old and new 512-byte units")
X(SIM_DISK_TEAR_UNIT, "disk-tear-unit", 0.1, SURVIVES, SURVIVES, SURVIVES,
  "a torn sector has a unit that is old and new bytes")
X(SIM_DISK_LATE, "disk-late", 0.4, SURVIVES, SURVIVES, SURVIVES,
  "a write to a shared device in flight when its node crashes lands later")
X(SIM_DISK_BIT_ROT, "disk-bit-rot", 0, DETECTS, DETECTS, SURVIVES, "a bit of what is read has changed on the medium")
/* The network. */
X(SIM_NET_SLOW, "net-slow", 0.02, SURVIVES, SURVIVES, SURVIVES, "bytes take up to three seconds")
X(SIM_NET_RESET, "net-reset", 0.002, SURVIVES, SURVIVES, SURVIVES,
  "a connection is reset; what was under way may be lost")
X(SIM_NET_SILENT, "net-silent", 0.0005, SURVIVES, SURVIVES, SURVIVES,
  "nothing that one end sends arrives any more, and nobody is told")
X(SIM_NET_REFUSED, "net-refused", 0.02, SURVIVES, SURVIVES, SURVIVES, "a connection is refused")
X(SIM_NET_CUT, "net-cut", 0, SURVIVES, SURVIVES, SURVIVES, "nothing from one node reaches another for a while")
/* Clients. */
X(SIM_CLIENT_DIES, "client-dies", 0.01, SURVIVES, SURVIVES, SURVIVES,
  "a client ends in the middle of what it sends; another begins in its place")
/* Clocks: looked at every few seconds. A look is the occasion. */
X(SIM_CLOCK_SKEW, "clock-skew", 0.2, SURVIVES, SURVIVES, SURVIVES, "a machine's wall clock is minutes or hours off")
X(SIM_CLOCK_JUMP, "clock-jump", 0.05, SURVIVES, SURVIVES, SURVIVES,
  "a wall clock jumps forward or back, by seconds or hours")
X(SIM_CLOCK_DRIFT, "clock-drift", 0.1, SURVIVES, SURVIVES, SURVIVES,
  "a monotonic clock runs too fast or too slow, by up to 30 %")
X(SIM_CLOCK_STILL, "clock-still", 0.01, SURVIVES, SURVIVES, SURVIVES,
  "a monotonic clock stands still for up to minutes while its process runs")
/* Nodes. Workloads decide when; the table counts them. */
X(SIM_CRASH_KILL, "crash-kill", 0, SURVIVES, SURVIVES, SURVIVES, "a process ends at once (kill -9)")
X(SIM_CRASH_POWER, "crash-power", 0, SURVIVES, SURVIVES, SURVIVES, "a machine loses power")
X(SIM_CRASH_EFFECT, "crash-effect", 0.2, SURVIVES, SURVIVES, SURVIVES,
  "such a crash comes between two effects of one step")
X(SIM_MACHINE_LOST, "machine-lost", 0, DETECTS, SURVIVES, SURVIVES,
  "a machine is lost with its disks; another with empty ones takes its place")
X(SIM_RESTART, "restart", 0, SURVIVES, SURVIVES, SURVIVES, "what ended is started again")
X(SIM_PAUSE, "pause", 0, SURVIVES, SURVIVES, SURVIVES,
  "a process stands still for up to minutes while what it sent goes on")
