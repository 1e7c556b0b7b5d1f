# What the broker speaks. Its answers never have a flexible header.
api 18 ApiVersions
versions 0-4
flexible 3+

request {
    client_software_name     string  3+  ignorable
    client_software_version  string  3+  ignorable
}

response {
    error_code                int16
    api_keys                  []api                    {
        api_key               int16
        min_version           int16
        max_version           int16
    }
    throttle_time_ms          int32                1+  ignorable
    supported_features        []supported_feature  3+  tag 0 ignorable {
        name                  string
        min_version           int16
        max_version           int16
    }
    finalized_features_epoch  int64                3+  tag 1 = -1 ignorable  # -1: not known
    finalized_features        []finalized_feature  3+  tag 2 ignorable {
        name                  string
        max_version_level     int16
        min_version_level     int16
    }
    zk_migration_ready        bool                 3+  tag 3 ignorable
}
