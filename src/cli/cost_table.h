/* COST_SETTING(id, key, S3 Standard, S3 Express One Zone, unit, what it is). Prices in US dollars as Amazon publishes them
 * for us-east-1 (docs/cost.md has dates and addresses), and what a month is assumed to look like. Every one can be set.
 * Included several times; no include guard on purpose. */
COST_SETTING(COST_PUT_USD, "put.usd.per.1000", 0.005, 0.00113, "$", "1000 PUT, COPY, POST or LIST requests")
COST_SETTING(COST_GET_USD, "get.usd.per.1000", 0.0004, 0.00003, "$", "1000 GET requests")
COST_SETTING(COST_IN_USD, "upload.usd.per.gb", 0, 0.0032, "$", "a GB put into the store")
COST_SETTING(COST_OUT_USD, "retrieval.usd.per.gb", 0, 0.0006, "$", "a GB read from the store")
COST_SETTING(COST_STORAGE_USD, "storage.usd.per.gb.month", 0.023, 0.11, "$", "a GB in the store for a month")
COST_SETTING(COST_DISK_USD, "disk.usd.per.gb.month", 0.08, 0.08, "$", "a GB of disk (EBS gp3) for a month")
COST_SETTING(COST_ZONE_USD, "zone.usd.per.gb", 0.02, 0.02, "$", "a GB between zones, both directions of it billed")
COST_SETTING(COST_INSTANCE_USD, "instance.usd.per.hour", 0.1632, 0.1632, "$", "an instance (m7g.xlarge) for an hour")
COST_SETTING(COST_MONTH_HOURS, "month.hours", 730, 730, "hours", "a month")
COST_SETTING(COST_RETENTION_HOURS, "retention.hours", 168, 168, "hours", "how long records are kept: Kafka's default")
COST_SETTING(COST_ZONES, "zones", 3, 3, "", "zones; clients are in each of them alike")
COST_SETTING(COST_CONSUMERS_CROSS, "kafka.consumers.cross", 1, 1, "",
             "1: consumers of Kafka read from leaders in any zone; 0: each from a replica in its own")
COST_SETTING(COST_KAFKA_REPLICAS, "kafka.replicas", 3, 3, "", "replicas of each partition, in different zones")
COST_SETTING(COST_KAFKA_FILL, "kafka.disk.fill", 0.7, 0.7, "", "share of Kafka's disks that holds data; the rest is room to grow")
COST_SETTING(COST_KAFKA_INSTANCES, "kafka.instances", 3, 3, "", "instances of Kafka")
COST_SETTING(COST_OXBOW_INSTANCES, "oxbow.instances", 3, 3, "", "instances of Oxbow")
#undef COST_SETTING
