# Brokers, topics and partition leaders. In version 0 no topics means all; from 1 on null does.
api 3 Metadata
versions 0-13
flexible 9+

request {
    topics                                 []topic?1+        {
        topic_id                           uuid        10+   ignorable
        name                               string?10+
    }
    allow_auto_topic_creation              bool        4+    = true
    include_cluster_authorized_operations  bool        8-10
    include_topic_authorized_operations    bool        8+
}

response {
    throttle_time_ms                 int32        3+    ignorable
    brokers                          []broker           {
        node_id                      int32
        host                         string
        port                         int32
        rack                         string?      1+    = null ignorable
    }
    cluster_id                       string?      2+    = null ignorable
    controller_id                    int32        1+    = -1 ignorable  # -1: not known
    topics                           []topic            {
        error_code                   int16
        name                         string?12+
        topic_id                     uuid         10+   ignorable
        is_internal                  bool         1+    ignorable
        partitions                   []partition        {
            error_code               int16
            partition_index          int32
            leader_id                int32
            leader_epoch             int32        7+    = -1 ignorable
            replica_nodes            []int32
            isr_nodes                []int32
            offline_replicas         []int32      5+    ignorable
        }
        topic_authorized_operations  int32        8+    = -2147483648   # bits; the minimum: not asked for
    }
    cluster_authorized_operations    int32        8-10  = -2147483648
    error_code                       int16        13+   ignorable
}
