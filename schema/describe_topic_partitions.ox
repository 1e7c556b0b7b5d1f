# Topics and partitions, page by page.
api 75 DescribeTopicPartitions
versions 0-0
flexible 0+

request {
    topics                    []topic  {
        name  string
    }
    response_partition_limit  int32    = 2000
    cursor                    cursor?  = null  {
        topic_name       string
        partition_index  int32
    }
}

response {
    throttle_time_ms  int32         ignorable
    topics            []topic  {
        error_code                   int16
        name                         string?
        topic_id                     uuid         ignorable
        is_internal                  bool         ignorable
        partitions                   []partition  {
            error_code                int16
            partition_index           int32
            leader_id                 int32
            leader_epoch              int32     = -1 ignorable
            replica_nodes             []int32
            isr_nodes                 []int32
            eligible_leader_replicas  []int32?  = null
            last_known_elr            []int32?  = null
            offline_replicas          []int32   ignorable
        }
        topic_authorized_operations  int32        = -2147483648
    }
    next_cursor       next_cursor?  = null  {
        topic_name       string
        partition_index  int32
    }
}
