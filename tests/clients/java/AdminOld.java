import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.config.ConfigResource;

/** What the first admin clients (0.11, 1.x) can do. */
public class AdminOld {
    public static Map<String, JavaClient.Check> checks() {
        Map<String, JavaClient.Check> all = new LinkedHashMap<>();
        all.put("topics", AdminOld::topics);
        return all;
    }

    static void topics() throws Exception {
        String name = JavaClient.family + "-made";
        Set<String> one = Collections.singleton(name);
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        try (AdminClient a = AdminClient.create(JavaClient.options())) {
            NewTopic t = new NewTopic(name, 2, (short) 1);
            t.configs(Collections.singletonMap("retention.ms", "123456"));
            a.createTopics(Collections.singleton(t)).all().get();
            JavaClient.until("the topic is known", () -> a.listTopics().names().get().contains(name), Collections.<JavaClient.Member>emptyList());
            JavaClient.same("partitions", 2, a.describeTopics(one).all().get().get(name).partitions().size());
            JavaClient.same("retention.ms", "123456", a.describeConfigs(Collections.singleton(resource)).all().get().get(resource).get("retention.ms").value());
            a.alterConfigs(Collections.singletonMap(resource, new Config(Collections.singleton(new ConfigEntry("max.message.bytes", "54321"))))).all().get();
            Config found = a.describeConfigs(Collections.singleton(resource)).all().get().get(resource);
            JavaClient.same("max.message.bytes", "54321", found.get("max.message.bytes").value());
            JavaClient.same("retention.ms is as before", "604800000", found.get("retention.ms").value());
            JavaClient.same("nodes", 1, a.describeCluster().nodes().get().size());
            a.deleteTopics(one).all().get();
            JavaClient.until("the topic is gone", () -> !a.listTopics().names().get().contains(name), Collections.<JavaClient.Member>emptyList());
        }
    }
}
