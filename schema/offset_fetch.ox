# Reads the committed offsets of groups. 2: all topics by null; 7: require_stable; 8: several groups; 10: topics by id.
api 9 OffsetFetch
versions 0-10
flexible 6+

request {
    group_id        string      0-7
    topics          []topic?2+  0-7  {
        name               string
        partition_indexes  []int32
    }
    groups          []group     8+  {
        group_id      string
        member_id     string?         9+  = null ignorable
        member_epoch  int32           9+  = -1 ignorable
        topics        []group_topic?  {
            name               string   8-9  ignorable
            topic_id           uuid     10+  ignorable
            partition_indexes  []int32
        }
    }
    require_stable  bool        7+
}

response {
    throttle_time_ms  int32    3+   ignorable
    topics            []topic  0-7  {
        name        string
        partitions  []partition  {
            partition_index         int32
            committed_offset        int64
            committed_leader_epoch  int32    5+  = -1 ignorable
            metadata                string?
            error_code              int16
        }
    }
    error_code        int16    2-7  ignorable
    groups            []group  8+  {
        group_id    string
        topics      []group_topic  {
            name        string                   8-9  ignorable
            topic_id    uuid                     10+  ignorable
            partitions  []group_topic_partition  {
                partition_index         int32
                committed_offset        int64
                committed_leader_epoch  int32    = -1 ignorable
                metadata                string?
                error_code              int16
            }
        }
        error_code  int16
    }
}
