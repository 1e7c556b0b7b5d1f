# The configuration of topics and brokers. 1: sources and synonyms instead of is_default; 3: types, documentation.
api 32 DescribeConfigs
versions 0-4
flexible 4+

request {
    resources               []resource      {
        resource_type       int8                            # 2 topic, 4 broker, ...
        resource_name       string
        configuration_keys  []string?                       # null: all
    }
    include_synonyms        bool        1+
    include_documentation   bool        3+
}

response {
    throttle_time_ms       int32
    results                []result       {
        error_code         int16
        error_message      string?
        resource_type      int8
        resource_name      string
        configs            []config       {
            name           string
            value          string?
            read_only      bool
            is_default     bool       0
            config_source  int8       1+  = -1 ignorable
            is_sensitive   bool
            synonyms       []synonym  1+  ignorable {
                name       string
                value      string?
                source     int8
            }
            config_type    int8       3+  ignorable
            documentation  string?    3+  ignorable
        }
    }
}
