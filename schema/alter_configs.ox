# Replaces the configuration of resources: what is not listed goes back to its default.
api 33 AlterConfigs
versions 0-2
flexible 2+

request {
    resources      []resource  {
        resource_type  int8
        resource_name  string
        configs        []config  {
            name   string
            value  string?
        }
    }
    validate_only  bool
}

response {
    throttle_time_ms  int32
    responses         []response  {
        error_code     int16
        error_message  string?
        resource_type  int8
        resource_name  string
    }
}
