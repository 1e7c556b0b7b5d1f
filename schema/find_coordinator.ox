# Where the coordinator of a group or transaction is. From version 4 on, for many keys at once.
api 10 FindCoordinator
versions 0-6
flexible 3+

request {
    key               string    0-3
    key_type          int8      1+                   # 0 group, 1 transaction, 2 share
    coordinator_keys  []string  4+
}

response {
    throttle_time_ms   int32          1+   ignorable
    error_code         int16          0-3
    error_message      string?        1-3  ignorable
    node_id            int32          0-3
    host               string         0-3
    port               int32          0-3
    coordinators       []coordinator  4+   {
        key            string
        node_id        int32
        host           string
        port           int32
        error_code     int16
        error_message  string?             ignorable
    }
}
