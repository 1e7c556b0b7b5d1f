/* COUNTER/GAUGE/HISTOGRAM(id, Prometheus name, label dimension, help). Included several times; no include guard on
 * purpose. */
COUNTER(M_REQUESTS, "oxbow_requests_total", METRIC_LABEL_API, "Requests answered, by API.")
COUNTER(M_REQUEST_ERRORS, "oxbow_errors_total", METRIC_LABEL_ERR, "Errors answered or met, by internal error.")
COUNTER(M_BYTES_RECEIVED, "oxbow_network_received_bytes_total", METRIC_LABEL_NONE, "Bytes read from client sockets.")
COUNTER(M_BYTES_SENT, "oxbow_network_sent_bytes_total", METRIC_LABEL_NONE, "Bytes written to client sockets.")
COUNTER(M_CONNECTIONS_OPENED, "oxbow_connections_opened_total", METRIC_LABEL_NONE, "Client connections accepted.")
COUNTER(M_CONNECTIONS_REFUSED, "oxbow_connections_closed_on_error_total", METRIC_LABEL_NONE,
        "Client connections closed for bytes that follow no protocol.")
COUNTER(M_STORE_REQUESTS, "oxbow_store_requests_total", METRIC_LABEL_STORE_OP,
        "Object store requests, by operation and purpose.")
COUNTER(
    M_STORE_BILLED, "oxbow_store_billed_requests_total", METRIC_LABEL_STORE_OP,
    "Requests as S3's price list counts them, each part of an object one, without repeats, by operation and purpose.")
COUNTER(M_STORE_BYTES, "oxbow_store_bytes_total", METRIC_LABEL_STORE_OP,
        "Object bytes moved, by operation and purpose.")
COUNTER(M_STORE_ERRORS, "oxbow_store_errors_total", METRIC_LABEL_ERR, "Object store requests that failed, by error.")
COUNTER(M_S3_REQUESTS, "oxbow_s3_requests_total", METRIC_LABEL_S3,
        "S3 requests as they were sent, repeated and second ones included, by operation and outcome.")
COUNTER(M_S3_RETRIES, "oxbow_s3_retries_total", METRIC_LABEL_NONE, "S3 requests that were repeated after a failure.")
COUNTER(M_S3_HEDGES, "oxbow_s3_hedges_total", METRIC_LABEL_NONE,
        "S3 reads of which a second request was sent because the first was slow.")
COUNTER(M_S3_HEDGES_WON, "oxbow_s3_hedges_won_total", METRIC_LABEL_NONE,
        "S3 reads of which the second request was the faster.")
COUNTER(M_S3_CONNECTIONS, "oxbow_s3_connections_opened_total", METRIC_LABEL_NONE, "Connections opened to the S3 store.")
COUNTER(M_WAL_GROUPS, "oxbow_wal_groups_total", METRIC_LABEL_NONE, "Group commits written to the WAL.")
COUNTER(M_WAL_BYTES, "oxbow_wal_bytes_total", METRIC_LABEL_NONE, "Bytes written to the WAL, padding included.")
COUNTER(M_WAL_ERRORS, "oxbow_wal_errors_total", METRIC_LABEL_ERR, "WAL writes that failed, by error.")
COUNTER(M_WAL_MEMBER_LOSSES, "oxbow_wal_member_losses_total", METRIC_LABEL_NONE,
        "Members of a mirrored WAL that failed or were too slow.")
COUNTER(M_WAL_MEMBER_REPAIRS, "oxbow_wal_member_repairs_total", METRIC_LABEL_NONE,
        "Members of a mirrored WAL that came back.")
COUNTER(M_WAL_MEMBERSHIPS, "oxbow_wal_memberships_total", METRIC_LABEL_NONE,
        "Changes of a mirrored WAL's membership that became durable.")
COUNTER(M_BLOCK_CACHE_HITS, "oxbow_block_cache_hits_total", METRIC_LABEL_NONE,
        "Reads of object blocks answered from the block cache.")
COUNTER(M_BLOCK_CACHE_MISSES, "oxbow_block_cache_misses_total", METRIC_LABEL_NONE,
        "Reads of object blocks that went to the store.")
COUNTER(M_BLOCK_CACHE_WAITS, "oxbow_block_cache_waits_total", METRIC_LABEL_NONE,
        "Reads of object blocks that waited for a GET which was in line or under way already.")
COUNTER(M_BLOCK_CACHE_EVICTED_BYTES, "oxbow_block_cache_evicted_bytes_total", METRIC_LABEL_NONE,
        "Bytes that the block cache let go of to make room.")
COUNTER(M_READ_AHEAD_USED_BYTES, "oxbow_read_ahead_used_bytes_total", METRIC_LABEL_NONE,
        "Bytes that were read ahead and then wanted.")
COUNTER(M_READ_AHEAD_WASTED_BYTES, "oxbow_read_ahead_wasted_bytes_total", METRIC_LABEL_NONE,
        "Bytes that were read ahead and went unused.")
COUNTER(M_READ_AHEAD_REFUSED, "oxbow_read_ahead_refused_total", METRIC_LABEL_NONE,
        "Times that the budget of the read-ahead was used up.")
COUNTER(
    M_READ_BUDGET_WAITS, "oxbow_read_budget_waits_total", METRIC_LABEL_NONE,
    "Reads of object blocks that waited in line, for room in the block cache or for one of the GETs that may be under way.")
COUNTER(M_READ_CUT_SHORT, "oxbow_read_cut_short_total", METRIC_LABEL_NONE,
        "Reads that ended early because answers hold as much memory of objects as they may.")
COUNTER(M_LOG_CACHE_READS, "oxbow_log_cache_reads_total", METRIC_LABEL_NONE, "Reads answered from the log cache.")
COUNTER(M_UPLOADS, "oxbow_uploads_total", METRIC_LABEL_NONE, "Ledger entries that carried records.")
COUNTER(M_MERGED_BYTES, "oxbow_merged_bytes_total", METRIC_LABEL_NONE,
        "Bytes of small ranges that object compaction has made larger ones of.")
COUNTER(M_CHECKPOINTS, "oxbow_checkpoints_total", METRIC_LABEL_NONE, "Ledger checkpoints.")
COUNTER(M_OBJECTS_DELETED, "oxbow_objects_deleted_total", METRIC_LABEL_NONE,
        "Objects deleted because nothing needs them.")
COUNTER(M_CLEANER_PASSES, "oxbow_log_cleaner_passes_total", METRIC_LABEL_NONE, "Passes of log compaction that ended.")
COUNTER(M_CLEANER_FAILURES, "oxbow_log_cleaner_failures_total", METRIC_LABEL_NONE,
        "Passes of log compaction that failed.")
COUNTER(M_CLEANER_BYTES_BEFORE, "oxbow_log_cleaner_bytes_before_total", METRIC_LABEL_NONE,
        "Bytes of records that log compaction looked at.")
COUNTER(M_CLEANER_BYTES_AFTER, "oxbow_log_cleaner_bytes_after_total", METRIC_LABEL_NONE,
        "Bytes of records that it left of them.")
COUNTER(M_CLEANER_RECORDS_REMOVED, "oxbow_log_cleaner_records_removed_total", METRIC_LABEL_NONE,
        "Records that log compaction removed.")
COUNTER(M_CLEANER_RECORDS_WITHOUT_KEY, "oxbow_log_cleaner_records_without_key_total", METRIC_LABEL_NONE,
        "Records without a key that log compaction met in compacted topics, and removed.")
COUNTER(M_GROUP_REBALANCES, "oxbow_group_rebalances_total", METRIC_LABEL_NONE,
        "Rebalances of consumer groups that began.")
COUNTER(M_GROUP_MEMBERS_EXPIRED, "oxbow_group_members_expired_total", METRIC_LABEL_NONE,
        "Members that were put out of their groups because they did not answer in time.")
COUNTER(M_OFFSET_COMMITS, "oxbow_offset_commits_total", METRIC_LABEL_NONE,
        "Offsets that clients wanted committed, by partition.")
COUNTER(M_COORDINATOR_RECORDS, "oxbow_coordinator_records_total", METRIC_LABEL_NONE,
        "Records written to __consumer_offsets.")
COUNTER(M_COORDINATOR_LOADED_RECORDS, "oxbow_coordinator_loaded_records_total", METRIC_LABEL_NONE,
        "Live records that coordinators were loaded from; history is not replayed.")
COUNTER(
    M_OFFICE_LOOKS, "oxbow_office_looks_total", METRIC_LABEL_NONE,
    "Looks at the end of the cluster log, to see that no other broker has taken over, before a client was answered.")
COUNTER(M_MEMORY_TRIMS, "oxbow_memory_trims_total", METRIC_LABEL_NONE,
        "Times that more was resident than all budgets come to, and what the allocator had free was given back.")
COUNTER(M_LOOP_STALLS, "oxbow_loop_stalls_total", METRIC_LABEL_NONE,
        "Times that one step of an event loop took over 500 microseconds.")
GAUGE(M_MEMORY_KEPT_BYTES, "oxbow_memory_kept_bytes", METRIC_LABEL_NONE,
      "Large buffers that nobody uses now, kept for who needs as much next: resident, but not allocated.")
GAUGE(M_CONNECTIONS, "oxbow_connections", METRIC_LABEL_NONE, "Open client connections.")
GAUGE(M_PARTITIONS, "oxbow_partitions", METRIC_LABEL_NONE, "Open partitions.")
GAUGE(M_CLEANER_MAP_BYTES, "oxbow_log_cleaner_map_bytes", METRIC_LABEL_NONE,
      "Memory for the keys of the partition that is being compacted.")
GAUGE(M_CLEANER_BYTES, "oxbow_log_cleaner_bytes", METRIC_LABEL_NONE,
      "All memory of log compaction: the keys, and what is read and written.")
GAUGE(M_FETCH_SESSION_BYTES, "oxbow_fetch_session_bytes", METRIC_LABEL_NONE, "Bytes of incremental fetch sessions.")
GAUGE(M_GROUP_BYTES, "oxbow_group_bytes", METRIC_LABEL_NONE,
      "Bytes of consumer groups, their members and committed offsets.")
GAUGE(M_PRODUCER_BYTES, "oxbow_producer_bytes", METRIC_LABEL_NONE,
      "Bytes of what is remembered of idempotent producers.")
GAUGE(M_PARTITION_BYTES, "oxbow_partition_bytes", METRIC_LABEL_NONE, "Bytes of open partitions.")
GAUGE(M_CLEANER_DIRTY_PERCENT, "oxbow_log_cleaner_max_dirty_percent", METRIC_LABEL_NONE,
      "The largest share of bytes not yet compacted among compacted partitions.")
GAUGE(M_CLEANER_DELAY_SECONDS, "oxbow_log_cleaner_max_compaction_delay_seconds", METRIC_LABEL_NONE,
      "The longest by which a record has outstayed max.compaction.lag.ms.")
GAUGE(M_CLEANER_UNCLEANABLE_PARTITIONS, "oxbow_log_cleaner_uncleanable_partitions", METRIC_LABEL_NONE,
      "Partitions that cannot be compacted: something in them is damaged.")
GAUGE(M_CLEANER_UNCLEANABLE_BYTES, "oxbow_log_cleaner_uncleanable_bytes", METRIC_LABEL_NONE,
      "Bytes not yet compacted of those.")
GAUGE(M_COORDINATORS, "oxbow_coordinators", METRIC_LABEL_NONE, "Group coordinators that are loaded.")
GAUGE(M_GROUPS_EMPTY, "oxbow_groups_empty", METRIC_LABEL_NONE, "Consumer groups without members.")
GAUGE(M_GROUPS_PREPARING, "oxbow_groups_preparing_rebalance", METRIC_LABEL_NONE,
      "Consumer groups that wait for members to join.")
GAUGE(M_GROUPS_COMPLETING, "oxbow_groups_completing_rebalance", METRIC_LABEL_NONE,
      "Consumer groups that wait for their leader's assignment.")
GAUGE(M_GROUPS_STABLE, "oxbow_groups_stable", METRIC_LABEL_NONE, "Consumer groups at work.")
GAUGE(M_GROUPS_DEAD, "oxbow_groups_dead", METRIC_LABEL_NONE, "Consumer groups that are about to go.")
GAUGE(M_GROUP_MEMBERS, "oxbow_group_members", METRIC_LABEL_NONE, "Members of consumer groups.")
GAUGE(M_GROUP_OFFSETS, "oxbow_group_offsets", METRIC_LABEL_NONE, "Committed offsets held.")
GAUGE(M_WAL_USED_BYTES, "oxbow_wal_used_bytes", METRIC_LABEL_NONE, "Bytes of the WAL not yet trimmed.")
GAUGE(M_WAL_SIZE_BYTES, "oxbow_wal_size_bytes", METRIC_LABEL_NONE, "Size of the WAL ring.")
GAUGE(M_WAL_MEMBERS, "oxbow_wal_members", METRIC_LABEL_NONE, "Members of a mirrored WAL that are counted on.")
GAUGE(M_WAL_MEMBERS_LOST, "oxbow_wal_members_lost", METRIC_LABEL_NONE, "Members of a mirrored WAL that are not.")
GAUGE(M_WAL_FAILED, "oxbow_wal_failed", METRIC_LABEL_NONE,
      "1 while there is a WAL that cannot be used, and acknowledgements come from the ledger.")
GAUGE(M_STORE_FREEING, "oxbow_store_freeing_bytes", METRIC_LABEL_NONE,
      "Bytes of deleted objects that are still on the disk (file:// store): they are freed gradually.")
GAUGE(M_STORE_FAILING, "oxbow_store_failing", METRIC_LABEL_NONE,
      "Above 0 while the object store refuses writes: how many logs and uploads are repeating theirs.")
GAUGE(M_LOG_CACHE_BYTES, "oxbow_log_cache_bytes", METRIC_LABEL_NONE, "Bytes of commit blocks held.")
GAUGE(M_LOG_CACHE_LENT_BYTES, "oxbow_log_cache_lent_bytes", METRIC_LABEL_NONE,
      "Bytes of commit blocks that the log cache has let go of and answers still hold.")
GAUGE(M_MERGE_DEBT, "oxbow_merge_debt_bytes", METRIC_LABEL_NONE,
      "Bytes of small ranges that object compaction has before it.")
GAUGE(M_OBJECTS_STUCK, "oxbow_objects_not_deleted", METRIC_LABEL_NONE,
      "Objects that nothing needs and that the store has refused to delete; they are tried again.")
GAUGE(M_BLOCK_CACHE_BYTES, "oxbow_block_cache_bytes", METRIC_LABEL_NONE,
      "Bytes of object blocks held, and of GETs under way for them.")
GAUGE(M_BLOCK_CACHE_LENT_BYTES, "oxbow_block_cache_lent_bytes", METRIC_LABEL_NONE,
      "Bytes of object blocks that the cache has let go of and answers still hold.")
GAUGE(M_RECEIVE_BYTES, "oxbow_receive_buffer_bytes", METRIC_LABEL_NONE, "Bytes of unfinished requests held.")
GAUGE(M_DECODE_BYTES, "oxbow_decode_bytes", METRIC_LABEL_NONE, "Bytes granted to requests that are of long lists.")
GAUGE(M_CONVERSION_BYTES, "oxbow_conversion_bytes", METRIC_LABEL_NONE,
      "Bytes granted to conversions of old message formats, and of their results not yet sent.")
GAUGE(M_UNSENT_BYTES, "oxbow_unsent_bytes", METRIC_LABEL_NONE,
      "Bytes of answers that clients have not taken yet, and of long ones that are being made.")
GAUGE(M_MADE_BYTES, "oxbow_made_bytes", METRIC_LABEL_NONE,
      "Of oxbow_unsent_bytes, what long answers take that are being made.")
GAUGE(M_UPLOAD_BYTES, "oxbow_upload_bytes", METRIC_LABEL_NONE,
      "Bytes of small batches put together by uploads under way.")
GAUGE(M_COMPACTION_BYTES, "oxbow_compaction_bytes", METRIC_LABEL_NONE,
      "Bytes of objects that object compaction has in memory.")
GAUGE(M_LOOP_STALL_MAX_NS, "oxbow_loop_stall_max_nanoseconds", METRIC_LABEL_NONE,
      "Longest step of an event loop since start.")
HISTOGRAM(M_REQUEST_LATENCY, "oxbow_request_duration_seconds", METRIC_LABEL_API,
          "From complete request to answer handed to the socket.")
HISTOGRAM(M_WAL_LATENCY, "oxbow_wal_write_duration_seconds", METRIC_LABEL_NONE, "From group sealed to durable.")
HISTOGRAM(M_S3_FIRST_BYTE, "oxbow_s3_first_byte_seconds", METRIC_LABEL_NONE,
          "From sending an S3 request to the first byte of its answer.")
HISTOGRAM(M_STORE_LATENCY, "oxbow_store_request_duration_seconds", METRIC_LABEL_STORE_OP, "Object store requests.")
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
