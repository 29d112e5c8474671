import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/** Kafka's own Java client behind the line protocol of protocol.md. */
public final class ClientDriver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long WAIT_S = 60;
    private static final int SENT_AT_ONCE = 20_000;

    private final Map<String, Reader> readers = new HashMap<>();
    private final Map<String, Member> members = new HashMap<>();

    /** What the library said. */
    private static final class ClientError extends RuntimeException {
        final String name;

        ClientError(String name, String text) {
            super(text);
            this.name = name;
        }
    }

    /** Records by index. */
    private static final class RecordSet {
        private static final byte[] NOISE = noise();
        final byte[] seed;
        final long timeMs;
        final int size;
        final boolean mixed;
        final int partitions;
        final byte[] nullHeader;
        private final byte[] longNoise;

        RecordSet(JsonNode set) {
            seed = set.get("seed").asText().getBytes(StandardCharsets.UTF_8);
            timeMs = set.get("time_ms").asLong();
            size = set.get("size").asInt();
            mixed = set.get("mixed").asBoolean();
            partitions = set.get("partitions").asInt();
            nullHeader = set.get("null_headers").asBoolean() ? null : new byte[] {'-'};
            longNoise = new byte[NOISE.length * (size / NOISE.length + 2)];
            for (int at = 0; at < longNoise.length; at++) longNoise[at] = NOISE[at % NOISE.length];
        }

        private static byte[] noise() {
            byte[] made = new byte[4099];
            int x = 12345;
            for (int at = 0; at < made.length; at++) {
                x = (x * 1103515245 + 12345) & 0x7fffffff;
                made[at] = (byte) (x >> 16);
            }
            return made;
        }

        byte[] value(long index) {
            if (mixed && index % 10 == 7) return null;
            byte[] number = Long.toString(index).getBytes(StandardCharsets.UTF_8);
            int length = (int) Math.max(seed.length + number.length + 2, size + index % 17);
            byte[] made = new byte[length];
            System.arraycopy(seed, 0, made, 0, seed.length);
            int at = seed.length;
            made[at++] = ':';
            System.arraycopy(number, 0, made, at, number.length);
            at += number.length;
            made[at++] = ':';
            System.arraycopy(longNoise, (int) (index % NOISE.length), made, at, length - at);
            return made;
        }

        byte[] key(long index) {
            return mixed && index % 10 == 3 ? null : ("k" + index % 97).getBytes(StandardCharsets.UTF_8);
        }

        List<Header> headers(long index) {
            if (!mixed || index % 10 != 5) return Collections.emptyList();
            return List.of(new RecordHeader("n", Long.toString(index).getBytes(StandardCharsets.UTF_8)),
                new RecordHeader("empty", new byte[0]), new RecordHeader("null", nullHeader));
        }
    }

    /** What a consumer found, or a producer was acknowledged. */
    private static final class Told {
        final RecordSet records;
        List<long[]> runs = new ArrayList<>();
        List<String> mismatches = new ArrayList<>();
        long count;
        private Map<Integer, long[]> open = new HashMap<>();

        Told(RecordSet records) {
            this.records = records;
        }

        synchronized void place(int partition, long stint, long offset, long index) {
            count++;
            long[] run = open.get(partition);
            if (run != null && run[1] == stint && offset == run[2] + run[4]
                && index == run[3] + run[4] * records.partitions) {
                run[4]++;
                return;
            }
            run = new long[] {partition, stint, offset, index, 1};
            open.put(partition, run);
            runs.add(run);
        }

        void read(ConsumerRecord<byte[], byte[]> record, long stint) {
            long index = record.timestamp() - records.timeMs;
            List<Header> headers = Arrays.asList(record.headers().toArray());
            boolean same = Arrays.equals(record.key(), records.key(index))
                && Arrays.equals(record.value(), records.value(index))
                && headers.equals(records.headers(index)) && record.partition() == index % records.partitions;
            if (!same && mismatches.size() < 5) {
                mismatches.add("partition " + record.partition() + " offset " + record.offset() + " isn't record " + index);
            }
            place(record.partition(), stint, record.offset(), index);
        }

        synchronized Map<String, Object> answer() {
            Map<String, Object> told = new HashMap<>();
            told.put("runs", runs);
            told.put("mismatches", mismatches);
            told.put("count", count);
            runs = new ArrayList<>();
            mismatches = new ArrayList<>();
            open = new HashMap<>();
            count = 0;
            return told;
        }
    }

    private static Properties properties(JsonNode request) {
        Properties made = new Properties();
        made.put("bootstrap.servers", request.get("at").asText());
        made.put("reconnect.backoff.ms", "20");
        made.put("reconnect.backoff.max.ms", "200");
        made.put("retry.backoff.ms", "20");
        return made;
    }

    private static KafkaConsumer<byte[], byte[]> consumer(Properties properties) {
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** A consumer that assigns itself partitions. */
    private static final class Reader {
        final Told told;
        final String topic;
        final Map<Integer, Long> stint = new HashMap<>();
        final KafkaConsumer<byte[], byte[]> consumer;

        Reader(JsonNode request) {
            told = new Told(new RecordSet(request.get("set")));
            topic = request.get("topic").asText();
            Properties properties = properties(request);
            properties.put("enable.auto.commit", "false");
            properties.put("auto.offset.reset", request.path("reset").asText("earliest"));
            properties.put("allow.auto.create.topics", "false");
            properties.put("fetch.max.wait.ms", "100");
            properties.put("max.poll.records", "1000");
            if (request.path("bytes_max").asInt() > 0) {
                properties.put("max.partition.fetch.bytes", request.get("bytes_max").asText());
            }
            consumer = consumer(properties);
            List<TopicPartition> partitions = new ArrayList<>();
            for (int partition = 0; partition < told.records.partitions; partition++) {
                partitions.add(new TopicPartition(topic, partition));
                stint.put(partition, 0L);
            }
            consumer.assign(partitions);
        }

        Object read(JsonNode request) {
            long wanted = request.get("count").asLong();
            long deadline = System.nanoTime() + (long) (request.path("timeout_s").asDouble(WAIT_S) * 1e9);
            while (told.count < wanted) {
                if (System.nanoTime() > deadline) {
                    throw new ClientError("Timeout", told.count + " of " + wanted + " records came");
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    told.read(record, stint.get(record.partition()));
                }
            }
            return told.answer();
        }

        List<TopicPartition> named(JsonNode partitions) {
            List<TopicPartition> found = new ArrayList<>();
            for (JsonNode each : partitions) found.add(new TopicPartition(topic, each.asInt()));
            return found;
        }
    }

    /** A member of a group, until it leaves. */
    private static final class Member extends Thread implements ConsumerRebalanceListener {
        final Told told;
        final Map<Integer, Long> stint = new HashMap<>();
        final Set<Integer> owned = Collections.synchronizedSet(new TreeSet<>());
        volatile String error = "";
        volatile boolean ended;
        private final KafkaConsumer<byte[], byte[]> consumer;

        Member(JsonNode request) {
            setDaemon(true);
            told = new Told(new RecordSet(request.get("set")));
            Properties properties = properties(request);
            properties.put("group.id", request.get("group").asText());
            properties.put("auto.offset.reset", "earliest");
            properties.put("session.timeout.ms", request.path("session_ms").asText("10000"));
            properties.put("heartbeat.interval.ms", "300");
            properties.put("auto.commit.interval.ms", "200");
            properties.put("fetch.max.wait.ms", "100");
            properties.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer."
                + (request.path("cooperative").asBoolean() ? "CooperativeStickyAssignor" : "RangeAssignor"));
            String instance = request.path("instance").asText("");
            if (!instance.isEmpty()) properties.put("group.instance.id", instance);
            consumer = consumer(properties);
            consumer.subscribe(List.of(request.get("topic").asText()), this);
            start();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            for (TopicPartition each : partitions) {
                stint.merge(each.partition(), 1L, Long::sum);
                owned.add(each.partition());
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            for (TopicPartition each : partitions) owned.remove(each.partition());
        }

        @Override
        public void run() {
            while (!ended) {
                try {
                    ConsumerRecords<byte[], byte[]> polled = consumer.poll(Duration.ofMillis(50));
                    for (ConsumerRecord<byte[], byte[]> record : polled) told.read(record, stint.get(record.partition()));
                } catch (RuntimeException thrown) {
                    error = thrown.toString();
                }
            }
            consumer.close();
        }
    }

    private Object version() {
        return Map.of("client", "Java", "version", AppInfoParser.getVersion());
    }

    private static KafkaProducer<byte[], byte[]> producer(JsonNode request, Map<String, String> more) {
        Properties properties = properties(request);
        properties.putAll(more);
        if (request.path("request_max").asInt() > 0) {
            properties.put("max.request.size", request.get("request_max").asText());
        }
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static Object produce(JsonNode request) throws Exception {
        Told told = new Told(new RecordSet(request.get("set")));
        String topic = request.get("topic").asText();
        double perS = request.path("per_s").asDouble(0);
        long began = System.nanoTime();
        Map<String, String> more = Map.of("acks", "all", "compression.type", request.get("codec").asText(),
            "linger.ms", "5", "enable.idempotence", request.get("idempotent").asText(), "batch.size", "65536");
        try (KafkaProducer<byte[], byte[]> producer = producer(request, more)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            long first = request.get("first").asLong();
            long count = request.get("count").asLong();
            for (long number = 0; number < count; number++) {
                long index = first + number;
                if (perS > 0 && number % 50 == 0) {
                    long wait = (long) (number / perS * 1e9) - (System.nanoTime() - began);
                    if (wait > 0) TimeUnit.NANOSECONDS.sleep(wait);
                }
                RecordSet records = told.records;
                sent.add(producer.send(new ProducerRecord<>(topic, (int) (index % records.partitions),
                    records.timeMs + index, records.key(index), records.value(index), records.headers(index))));
                if (sent.size() >= SENT_AT_ONCE) acknowledged(sent, told);
            }
            producer.flush();
            acknowledged(sent, told);
        }
        return told.answer();
    }

    private static void acknowledged(List<Future<RecordMetadata>> sent, Told told) throws Exception {
        for (Future<RecordMetadata> each : sent) {
            RecordMetadata done = each.get(120, TimeUnit.SECONDS);
            told.place(done.partition(), 0, done.offset(), done.timestamp() - told.records.timeMs);
        }
        sent.clear();
    }

    private static Object send(JsonNode request) throws Exception {
        Map<String, String> more = Map.of("max.block.ms", "3000", "delivery.timeout.ms", "4000",
            "request.timeout.ms", "3000");
        try (KafkaProducer<byte[], byte[]> producer = producer(request, more)) {
            RecordMetadata done = producer.send(new ProducerRecord<>(request.get("topic").asText(),
                request.path("partition").asInt(0), null, new byte[request.get("bytes").asInt()])).get(10, TimeUnit.SECONDS);
            return Map.of("offset", done.offset());
        }
    }

    private static Object times(JsonNode request) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(properties(request))) {
            Map<TopicPartition, Long> asked = new HashMap<>();
            request.get("times").properties().forEach(each -> asked.put(
                new TopicPartition(request.get("topic").asText(), Integer.parseInt(each.getKey())), each.getValue().asLong()));
            Map<String, Long> found = new TreeMap<>();
            for (Map.Entry<TopicPartition, OffsetAndTimestamp> each : consumer.offsetsForTimes(asked).entrySet()) {
                OffsetAndTimestamp answer = each.getValue();
                found.put(Integer.toString(each.getKey().partition()), answer == null ? -1 : answer.offset());
            }
            return found;
        }
    }

    private static Object ends(JsonNode request) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(properties(request))) {
            List<TopicPartition> asked = new ArrayList<>();
            for (int partition = 0; partition < request.get("partitions").asInt(); partition++) {
                asked.add(new TopicPartition(request.get("topic").asText(), partition));
            }
            Map<TopicPartition, Long> first = consumer.beginningOffsets(asked);
            Map<TopicPartition, Long> end = consumer.endOffsets(asked);
            Map<String, List<Long>> found = new TreeMap<>();
            for (TopicPartition each : asked) {
                found.put(Integer.toString(each.partition()), List.of(first.get(each), end.get(each)));
            }
            return found;
        }
    }

    private static Object admin(JsonNode request) throws Exception {
        String topic = request.path("topic").asText();
        String group = request.path("group").asText();
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Properties properties = properties(request);
        boolean patient = request.get("call").asText().equals("create"); // the first call, on a machine that starts everything
        properties.put("default.api.timeout.ms", patient ? "30000" : "5000"); // what is unknown is asked for that long
        properties.put("request.timeout.ms", patient ? "20000" : "4000");
        try (Admin admin = Admin.create(properties)) {
            switch (request.get("call").asText()) {
                case "create":
                    Map<String, String> configs = new HashMap<>();
                    request.path("configs").properties().forEach(e -> configs.put(e.getKey(), e.getValue().asText()));
                    NewTopic made = new NewTopic(topic, request.get("partitions").asInt(), (short) 1).configs(configs);
                    admin.createTopics(List.of(made)).all().get();
                    return null;
                case "partitions":
                    return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
                case "grow":
                    admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(request.get("partitions").asInt())))
                        .all().get();
                    return null;
                case "alter":
                    ConfigEntry entry = new ConfigEntry(request.get("key").asText(), request.get("value").asText());
                    admin.incrementalAlterConfigs(Map.of(resource,
                        List.of(new AlterConfigOp(entry, AlterConfigOp.OpType.SET)))).all().get();
                    return null;
                case "config":
                    return admin.describeConfigs(List.of(resource)).all().get().get(resource)
                        .get(request.get("key").asText()).value();
                case "delete":
                    admin.deleteTopics(List.of(topic)).all().get();
                    return null;
                case "groups":
                    return admin.listGroups().all().get().stream().anyMatch(each -> each.groupId().equals(group));
                case "committed":
                    Map<String, Long> found = new TreeMap<>();
                    admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
                        .forEach((each, offset) -> found.put(Integer.toString(each.partition()), offset.offset()));
                    return found;
                case "delete_group":
                    admin.deleteConsumerGroups(List.of(group)).all().get();
                    return null;
                case "truncate":
                    admin.deleteRecords(Map.of(new TopicPartition(topic, request.get("partition").asInt()),
                        RecordsToDelete.beforeOffset(request.get("offset").asLong()))).all().get();
                    return null;
                default:
                    throw new ClientError("NoSuchCall", request.get("call").asText());
            }
        }
    }

    private Object answer(JsonNode request) throws Exception {
        switch (request.get("do").asText()) {
            case "version": return version();
            case "produce": return produce(request);
            case "send": return send(request);
            case "times": return times(request);
            case "ends": return ends(request);
            case "admin": return admin(request);
            case "open":
                readers.put(request.get("reader").asText(), new Reader(request));
                return Map.of();
            case "join":
                members.put(request.get("member").asText(), new Member(request));
                return Map.of();
            case "owned": {
                Member member = members.get(request.get("member").asText());
                return Map.of("owned", new ArrayList<>(member.owned), "count", member.told.count, "error", member.error);
            }
            case "leave": {
                Member member = members.remove(request.get("member").asText());
                member.ended = true;
                member.join(WAIT_S * 1000);
                Map<String, Object> told = member.told.answer();
                told.put("error", member.error);
                return told;
            }
            default: return ofReader(request);
        }
    }

    private Object ofReader(JsonNode request) {
        Reader reader = readers.get(request.get("reader").asText());
        switch (request.get("do").asText()) {
            case "read": return reader.read(request);
            case "seek":
                request.get("offsets").properties().forEach(each -> {
                    int partition = Integer.parseInt(each.getKey());
                    reader.stint.merge(partition, 1L, Long::sum);
                    reader.consumer.seek(new TopicPartition(reader.topic, partition), each.getValue().asLong());
                });
                return Map.of();
            case "pause":
                reader.consumer.pause(reader.named(request.get("partitions")));
                return Map.of();
            case "resume":
                reader.consumer.resume(reader.named(request.get("partitions")));
                return Map.of();
            case "close":
                reader.consumer.close();
                readers.remove(request.get("reader").asText());
                return Map.of();
            default:
                throw new ClientError("NoSuchCall", request.get("do").asText());
        }
    }

    private static Map<String, Object> error(Throwable thrown) {
        Throwable inner = thrown instanceof ExecutionException ? thrown.getCause() : thrown;
        Map<String, Object> told = new HashMap<>();
        told.put("name", inner instanceof ClientError ? ((ClientError) inner).name : inner.getClass().getSimpleName());
        Errors known = Errors.forException(inner);
        told.put("code", known == Errors.UNKNOWN_SERVER_ERROR ? null : known.code());
        told.put("text", String.valueOf(inner.getMessage()));
        return told;
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err);
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        ClientDriver driver = new ClientDriver();
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            Map<String, Object> told = new HashMap<>();
            try {
                told.put("ok", driver.answer(JSON.readTree(line)));
            } catch (Throwable thrown) {
                told.put("error", error(thrown));
            }
            answers.println(JSON.writeValueAsString(told));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }
}
