# The end offset of a leader epoch: how clients notice truncation.
api 23 OffsetForLeaderEpoch
versions 0-4
flexible 4+

request {
    replica_id  int32    3+  = -2 ignorable
    topics      []topic  {
        topic       string
        partitions  []partition  {
            partition             int32
            current_leader_epoch  int32  2+  = -1 ignorable
            leader_epoch          int32
        }
    }
}

response {
    throttle_time_ms  int32    2+  ignorable
    topics            []topic  {
        topic       string
        partitions  []partition  {
            error_code    int16
            partition     int32
            leader_epoch  int32  1+  = -1 ignorable
            end_offset    int64      = -1
        }
    }
}
