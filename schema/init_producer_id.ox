# A producer id and epoch for an idempotent or transactional producer.
api 22 InitProducerId
versions 0-5
flexible 2+

request {
    transactional_id        string?                      # null: idempotent only
    transaction_timeout_ms  int32
    producer_id             int64    3+  = -1
    producer_epoch          int16    3+  = -1
}

response {
    throttle_time_ms  int32  ignorable
    error_code        int16
    producer_id       int64  = -1
    producer_epoch    int16
}
