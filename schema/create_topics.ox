# Creates topics; 1: validation only, messages; 4: defaults; from version 5 on the answer tells what was created.
api 19 CreateTopics
versions 0-7
flexible 5+

request {
    topics                   []topic       {
        name                 string
        num_partitions       int32                           # -1: the broker's default
        replication_factor   int16
        assignments          []assignment  {                 # instead of the two above
            partition_index  int32
            broker_ids       []int32
        }
        configs              []config      {
            name             string
            value            string?
        }
    }
    timeout_ms               int32         = 60000
    validate_only            bool        1+
}

response {
    throttle_time_ms             int32      2+  ignorable
    topics                       []topic        {
        name                     string
        topic_id                 uuid       7+  ignorable
        error_code               int16
        error_message            string?    1+  ignorable
        topic_config_error_code  int16      5+  tag 0 ignorable
        num_partitions           int32      5+  = -1 ignorable
        replication_factor       int16      5+  = -1 ignorable
        configs                  []config?  5+  ignorable {
            name                 string
            value                string?
            read_only            bool
            config_source        int8           = -1 ignorable
            is_sensitive         bool
        }
    }
}
