# Names of what has a configuration: client metrics (version 0), and every other type (version 1).
api 74 ListConfigResources
versions 0-1
flexible 0+

request {
    resource_types  []int8  1+
}

response {
    throttle_time_ms  int32
    error_code        int16
    config_resources  []config_resource  {
        resource_name  string
        resource_type  int8    1+  = 16 ignorable
    }
}
