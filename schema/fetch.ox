# Reads record batches. Versions before 4 cannot say what read_committed needs, and are answered with old message sets.
# 1: throttling; 2: timestamps; 3: limit of the whole, order of partitions; 4: record batches; 7: sessions;
# 9: leader epoch fencing; 11: rack; 12: diverging epochs; 13: topics by id; 15: replica state; 16: leader hints.
api 1 Fetch
versions 0-18
flexible 12+

request {
    cluster_id                    string?            12+   tag 0 = null ignorable
    replica_id                    int32              0-14  = -1
    replica_state                 replica_state      15+   tag 1 {
        replica_id                int32                    = -1
        replica_epoch             int64                    = -1
    }
    max_wait_ms                   int32
    min_bytes                     int32
    max_bytes                     int32              3+    = 2147483647 ignorable
    isolation_level               int8               4+    ignorable       # 1: read_committed
    session_id                    int32              7+    ignorable       # 0: none
    session_epoch                 int32              7+    = -1 ignorable  # 0: new session, -1: none
    topics                        []topic                  {
        topic                     string             0-12  ignorable
        topic_id                  uuid               13+   ignorable
        partitions                []partition              {
            partition             int32
            current_leader_epoch  int32              9+    = -1 ignorable
            fetch_offset          int64
            last_fetched_epoch    int32              12+   = -1            # asks for divergence
            log_start_offset      int64              5+    = -1 ignorable
            partition_max_bytes   int32
            replica_directory_id  uuid               17+   tag 0 ignorable
            high_watermark        int64              18+   tag 1 = 9223372036854775807 ignorable
        }
    }
    forgotten_topics_data         []forgotten_topic  7+    {               # leave the session
        topic                     string             7-12  ignorable
        topic_id                  uuid               13+   ignorable
        partitions                []int32
    }
    rack_id                       string             11+   ignorable
}

response {
    throttle_time_ms                int32                   1+    ignorable
    error_code                      int16                   7+    ignorable
    session_id                      int32                   7+
    responses                       []topic                       {
        topic                       string                  0-12  ignorable
        topic_id                    uuid                    13+   ignorable
        partitions                  []partition                   {
            partition_index         int32
            error_code              int16
            high_watermark          int64
            last_stable_offset      int64                   4+    = -1 ignorable
            log_start_offset        int64                   5+    = -1 ignorable
            diverging_epoch         diverging_epoch         12+   tag 0 {
                epoch               int32                         = -1
                end_offset          int64                         = -1
            }
            current_leader          current_leader          12+   tag 1 {
                leader_id           int32                         = -1
                leader_epoch        int32                         = -1
            }
            snapshot_id             snapshot_id             12+   tag 2 {
                end_offset          int64                         = -1
                epoch               int32                         = -1
            }
            aborted_transactions    []aborted_transaction?  4+    ignorable {     # null: read_uncommitted
                producer_id         int64
                first_offset        int64
            }
            preferred_read_replica  int32                   11+   = -1            # -1: this one
            records                 records?
        }
    }
    node_endpoints                  []node_endpoint         16+   tag 0 {
        node_id                     int32
        host                        string
        port                        int32
        rack                        string?                       = null
    }
}
