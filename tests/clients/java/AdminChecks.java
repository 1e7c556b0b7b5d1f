import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;

/** The admin client from 2.8 on. */
public class AdminChecks {
    public static Map<String, JavaClient.Check> checks() {
        Map<String, JavaClient.Check> all = new LinkedHashMap<>();
        all.put("group-admin", AdminChecks::groups);
        all.put("topics", AdminChecks::topics);
        all.put("records", AdminChecks::records);
        all.put("cluster", AdminChecks::cluster);
        return all;
    }

    static final List<JavaClient.Member> NOBODY = Collections.emptyList();

    static Admin admin() {
        return Admin.create(JavaClient.options());
    }

    interface Call { Object run() throws Exception; }

    static void fails(Class<?> error, Call call) throws Exception {
        try {
            call.run();
        } catch (ExecutionException e) {
            JavaClient.same("the error", error, e.getCause().getClass());
            return;
        }
        throw new AssertionError("no " + error.getSimpleName());
    }

    @SuppressWarnings("unchecked")
    static TopicDescription describe(Admin a, String name) throws Exception {
        Object result = a.describeTopics(Collections.singleton(name));
        String all = JavaClient.since(3, 1) ? "allTopicNames" : "all";
        return ((KafkaFuture<Map<String, TopicDescription>>) JavaClient.call(result, all)).get().get(name);
    }

    static void topics() throws Exception {
        String name = JavaClient.family + "-made";
        Set<String> one = Collections.singleton(name);
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        try (Admin a = admin()) {
            NewTopic t = new NewTopic(name, Optional.of(2), Optional.empty()).configs(Collections.singletonMap("retention.ms", "123456"));
            CreateTopicsResult made = a.createTopics(Collections.singleton(t));
            JavaClient.same("partitions told", 2, made.numPartitions(name).get());
            JavaClient.same("configuration told", "123456", made.config(name).get().get("retention.ms").value());
            JavaClient.until("the topic is known", () -> a.listTopics().names().get().contains(name), NOBODY);
            fails(TopicExistsException.class, () -> a.createTopics(Collections.singleton(t)).all().get());
            fails(InvalidConfigurationException.class, () -> a.createTopics(Collections.singleton(
                new NewTopic(name + "-4", 1, (short) 1).configs(Collections.singletonMap("no.such", "1")))).all().get());
            JavaClient.same("partitions", 2, describe(a, name).partitions().size());
            fails(InvalidPartitionsException.class, () -> a.createPartitions(Collections.singletonMap(name, NewPartitions.increaseTo(1))).all().get());
            a.createPartitions(Collections.singletonMap(name, NewPartitions.increaseTo(4))).all().get();
            JavaClient.until("it has four partitions", () -> describe(a, name).partitions().size() == 4, NOBODY);
            a.incrementalAlterConfigs(Collections.singletonMap(resource, Arrays.asList(
                new AlterConfigOp(new ConfigEntry("max.message.bytes", "54321"), AlterConfigOp.OpType.SET),
                new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.APPEND)))).all().get();
            JavaClient.until("the configuration is there", () -> {
                Config c = config(a, resource);
                return c.get("max.message.bytes").value().equals("54321") && c.get("cleanup.policy").value().equals("delete,compact");
            }, NOBODY);
            JavaClient.same("where it is from", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, config(a, resource).get("retention.ms").source());
            a.incrementalAlterConfigs(Collections.singletonMap(resource,
                Collections.singleton(new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE)))).all().get();
            JavaClient.until("the configuration is gone", () -> config(a, resource).get("retention.ms").isDefault(), NOBODY);
            fails(InvalidConfigurationException.class, () -> a.incrementalAlterConfigs(Collections.singletonMap(resource,
                Collections.singleton(new AlterConfigOp(new ConfigEntry("retention.ms", "x"), AlterConfigOp.OpType.SET)))).all().get());
            a.deleteTopics(one).all().get();
            JavaClient.until("the topic is gone", () -> !a.listTopics().names().get().contains(name), NOBODY);
            fails(UnknownTopicOrPartitionException.class, () -> a.deleteTopics(one).all().get());
            fails(UnknownTopicOrPartitionException.class, () -> describe(a, name));
        }
    }

    static Config config(Admin a, ConfigResource r) throws Exception {
        return a.describeConfigs(Collections.singleton(r), new DescribeConfigsOptions().includeSynonyms(true)).all().get().get(r);
    }

    static void records() throws Exception {
        String name = JavaClient.family + "-cut";
        TopicPartition part = new TopicPartition(name, 0);
        try (Admin a = admin()) {
            a.createTopics(Collections.singleton(new NewTopic(name, 1, (short) 1))).all().get();
            try (KafkaProducer<byte[], byte[]> p = JavaClient.producer()) {
                for (int n = 0; n < 50; n++) p.send(JavaClient.record(name, 0, n)).get(20, TimeUnit.SECONDS);
            }
            JavaClient.same("end", 50L, offset(a, part, OffsetSpec.latest()));
            JavaClient.same("by time", 20L, offset(a, part, OffsetSpec.forTimestamp(JavaClient.base + 200)));
            if (JavaClient.since(3, 0)) JavaClient.same("largest time", 49L, offset(a, part, (OffsetSpec) OffsetSpec.class.getMethod("maxTimestamp").invoke(null)));
            JavaClient.same("low watermark", 20L,
                a.deleteRecords(Collections.singletonMap(part, RecordsToDelete.beforeOffset(20))).lowWatermarks().get(part).get().lowWatermark());
            JavaClient.same("beginning", 20L, offset(a, part, OffsetSpec.earliest()));
            fails(org.apache.kafka.common.errors.OffsetOutOfRangeException.class, () -> a.deleteRecords(Collections.singletonMap(part, RecordsToDelete.beforeOffset(99))).all().get());
            try (KafkaConsumer<byte[], byte[]> c = JavaClient.consumer()) {
                c.assign(Collections.singleton(part));
                c.seekToBeginning(Collections.singleton(part));
                JavaClient.checkRecord(JavaClient.poll(c, 10000).iterator().next(), 20);
            }
            long size = 0;
            for (LogDirDescription d : a.describeLogDirs(Collections.singleton(1)).descriptions().get(1).get().values())
                if (d.replicaInfos().containsKey(part)) size += d.replicaInfos().get(part).size();
            JavaClient.same("its size is told", true, size > 0);
        }
    }

    static long offset(Admin a, TopicPartition p, OffsetSpec spec) throws Exception {
        return a.listOffsets(Collections.singletonMap(p, spec)).partitionResult(p).get().offset();
    }

    static void cluster() throws Exception {
        try (Admin a = admin()) {
            JavaClient.same("nodes", 1, a.describeCluster().nodes().get().size());
            JavaClient.same("an id", true, !a.describeCluster().clusterId().get().isEmpty());
            JavaClient.same("controller", 1, a.describeCluster().controller().get().id());
            ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
            JavaClient.same("its configuration", true, config(a, broker).get("message.max.bytes") != null);
            JavaClient.same("moves", 0, a.listPartitionReassignments().reassignments().get().size());
            TopicPartition part = new TopicPartition(JavaClient.family + "-times", 0);
            Throwable elected = a.electLeaders(ElectionType.PREFERRED, Collections.singleton(part)).partitions().get().get(part).map(e -> (Throwable) e).orElse(null);
            JavaClient.same("election", ElectionNotNeededException.class, elected == null ? null : elected.getClass());
        }
    }

    static void groups() throws Exception {
        String group = JavaClient.family + "-admin", topic = JavaClient.family + "-admin";
        TopicPartition part = new TopicPartition(topic, 0);
        List<String> one = Collections.singletonList(group);
        try (Admin a = admin()) {
            try (KafkaConsumer<byte[], byte[]> c = JavaClient.consumer("group.id", group, "client.id", "the-member")) {
                c.subscribe(Collections.singletonList(topic));
                JavaClient.until("the member has its partition", () -> {
                    JavaClient.poll(c, 100);
                    return !c.assignment().isEmpty();
                }, NOBODY);
                c.commitSync(Collections.singletonMap(part, new OffsetAndMetadata(0, "note")));
                JavaClient.same("listed", true, a.listConsumerGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)));
                ConsumerGroupDescription d = a.describeConsumerGroups(one).all().get().get(group);
                JavaClient.same("state", "Stable", String.valueOf(d.state()));
                JavaClient.same("assignor", "range", d.partitionAssignor());
                JavaClient.same("members", 1, d.members().size());
                MemberDescription m = d.members().iterator().next();
                JavaClient.same("client", "the-member", m.clientId());
                JavaClient.same("its partitions", Collections.singleton(part), m.assignment().topicPartitions());
                fails(GroupNotEmptyException.class, () -> a.deleteConsumerGroups(one).all().get());
                fails(GroupSubscribedToTopicException.class, () -> a.deleteConsumerGroupOffsets(group, Collections.singleton(part)).partitionResult(part).get());
                fails(UnknownMemberIdException.class,
                    () -> a.alterConsumerGroupOffsets(group, Collections.singletonMap(part, new OffsetAndMetadata(0))).all().get());
            }
            JavaClient.same("state without members", "Empty", String.valueOf(a.describeConsumerGroups(one).all().get().get(group).state()));
            JavaClient.same("offsets", Collections.singletonMap(part, new OffsetAndMetadata(0, "note")),
                a.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
            a.alterConsumerGroupOffsets(group, Collections.singletonMap(part, new OffsetAndMetadata(7))).all().get();
            JavaClient.same("altered", 7L, a.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(part).offset());
            a.deleteConsumerGroupOffsets(group, Collections.singleton(part)).all().get();
            JavaClient.same("without offsets", true, a.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(part) == null);
            a.alterConsumerGroupOffsets(group, Collections.singletonMap(part, new OffsetAndMetadata(1))).all().get();
            a.deleteConsumerGroups(one).all().get();
            JavaClient.same("still listed", false, a.listConsumerGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)));
            fails(GroupIdNotFoundException.class, () -> a.deleteConsumerGroups(one).all().get());
        }
    }
}
