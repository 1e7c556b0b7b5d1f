# Appends record batches to partitions. Versions before 3 carry message sets of the old formats.
# 1: throttling; 2: timestamps; 3: record batches; 7: zstd allowed; 8: errors of single records; 10: leader hints;
# 12: implicit transaction partitions; 13: topics by id.
api 0 Produce
versions 0-13
flexible 9+

request {
    transactional_id    string?      3+    = null
    acks                int16                              # 0: no answer; 1, -1
    timeout_ms          int32
    topic_data          []topic            {
        name            string       0-12  ignorable
        topic_id        uuid         13+   ignorable
        partition_data  []partition        {
            index       int32
            records     records?                           # from 3 on exactly one batch of magic 2
        }
    }
}

response {
    responses                              []topic                {
        name                               string           0-12  ignorable
        topic_id                           uuid             13+   ignorable
        partition_responses                []partition            {
            index                          int32
            error_code                     int16
            base_offset                    int64
            log_append_time_ms             int64            2+    = -1 ignorable  # -1 with the client's timestamps
            log_start_offset               int64            5+    = -1 ignorable
            record_errors                  []record_error   8+    ignorable {
                batch_index                int32
                batch_index_error_message  string?                = null
            }
            error_message                  string?          8+    = null ignorable
            current_leader                 current_leader   10+   tag 0 {         # with NOT_LEADER_OR_FOLLOWER
                leader_id                  int32                  = -1
                leader_epoch               int32                  = -1
            }
        }
    }
    throttle_time_ms                       int32            1+    ignorable
    node_endpoints                         []node_endpoint  10+   tag 0 {         # of the leaders named above
        node_id                            int32
        host                               string
        port                               int32
        rack                               string?                = null
    }
}
