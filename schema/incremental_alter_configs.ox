# Sets, deletes, appends to or subtracts from single configuration values.
api 44 IncrementalAlterConfigs
versions 0-1
flexible 1+

request {
    resources                 []resource  {
        resource_type         int8                          # 2 topic, 4 broker, ...
        resource_name         string
        configs               []config    {
            name              string
            config_operation  int8                          # 0 set, 1 delete, 2 append, 3 subtract
            value             string?
        }
    }
    validate_only             bool
}

response {
    throttle_time_ms   int32
    responses          []topic  {
        error_code     int16
        error_message  string?
        resource_type  int8
        resource_name  string
    }
}
