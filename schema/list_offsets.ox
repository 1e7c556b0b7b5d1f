# Offsets by timestamp, or of the ends of the log; version 0 is answered with a list of offsets at which segments begin.
api 2 ListOffsets
versions 0-11
flexible 6+

request {
    replica_id                    int32                             # -1: a consumer
    isolation_level               int8         2+
    topics                        []topic           {
        name                      string
        partitions                []partition       {
            partition_index       int32
            current_leader_epoch  int32        4+   = -1 ignorable
            timestamp             int64                             # or -1 latest, -2 earliest, -3 max timestamp, ...
            max_num_offsets       int32        0    = 1
        }
    }
    timeout_ms                    int32        10+  ignorable
}

response {
    throttle_time_ms           int32        2+  ignorable
    topics                     []topic          {
        name                   string
        partitions             []partition      {
            partition_index    int32
            error_code         int16
            old_style_offsets  []int64      0                       # where segments begin, falling
            timestamp          int64        1+  = -1
            offset             int64        1+  = -1
            leader_epoch       int32        4+  = -1
        }
    }
}
