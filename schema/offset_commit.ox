# Stores offsets of a group. Version 0 and 1 as up to Kafka 3.9; 2-4: retention of the request; 6: leader epochs;
# 7: static members; 10: topics by id.
api 8 OffsetCommit
versions 0-10
flexible 8+

request {
    group_id                       string
    generation_id_or_member_epoch  int32    1+   = -1 ignorable
    member_id                      string   1+   ignorable
    group_instance_id              string?  7+   = null
    retention_time_ms              int64    2-4  = -1 ignorable
    topics                         []topic  {
        name        string       0-9  ignorable
        topic_id    uuid         10+  ignorable
        partitions  []partition  {
            partition_index         int32
            committed_offset        int64
            committed_leader_epoch  int32    6+  = -1 ignorable
            commit_timestamp        int64    1   = -1
            committed_metadata      string?
        }
    }
}

response {
    throttle_time_ms  int32    3+  ignorable
    topics            []topic  {
        name        string       0-9  ignorable
        topic_id    uuid         10+  ignorable
        partitions  []partition  {
            partition_index  int32
            error_code       int16
        }
    }
}
