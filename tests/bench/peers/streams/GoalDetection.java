import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorSupplier;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Detects goals with Kafka Streams: enrollments as a table, goals as a global table, achievements and exits out.
 *
 * <p>Events and enrollments have the key tenant:contact, goals tenant:value. Usage: GoalDetection PROPERTIES
 * ENROLLMENTS GOALS ACHIEVEMENTS EXITS EVENTS..., the last five being topics.
 */
public final class GoalDetection {
    record Data(
            String contactId,
            String tagId,
            List<String> productIds,
            String calendarId,
            String formId,
            String stageId) {}

    record Event(String id, String source, String time, String tenantid, Data data) {
        /** Returns the keys of the goals that this event may hit. */
        List<Candidate> candidates() {
            List<Candidate> found = new ArrayList<>(1);
            for (String value : new String[] {data.tagId, data.calendarId, data.formId, data.stageId}) {
                if (value != null) {
                    found.add(new Candidate(tenantid + ":" + value, this));
                }
            }
            if (data.productIds != null) {
                for (String value : data.productIds) {
                    found.add(new Candidate(tenantid + ":" + value, this));
                }
            }
            return found;
        }
    }

    record Candidate(String goalKey, Event event) {}

    record Goal(String goalId, String workflowId) {}

    record Goals(List<Goal> goals) {
        List<Hit> hitBy(Event event) {
            return goals.stream().map(goal -> new Hit(goal, event)).toList();
        }
    }

    record Hit(Goal goal, Event event) {}

    record Enrollment(String enrollmentId, String workflowId) {}

    record Enrollments(List<Enrollment> enrollments) {
        /** Returns what a hit achieves for the enrollments in the workflow of its goal. */
        List<Achievement> achievedBy(Hit hit) {
            return enrollments.stream()
                    .filter(each -> each.workflowId.equals(hit.goal.workflowId))
                    .map(each -> Achievement.of(each, hit))
                    .toList();
        }
    }

    record Achievement(
            String enrollmentId,
            String goalId,
            String workflowId,
            String contactId,
            String tenantid,
            String eventSource,
            String eventId,
            String achievedAt) {
        static Achievement of(Enrollment run, Hit hit) {
            Event event = hit.event;
            return new Achievement(
                    run.enrollmentId,
                    hit.goal.goalId,
                    run.workflowId,
                    event.data.contactId,
                    event.tenantid,
                    event.source,
                    event.id,
                    event.time);
        }
    }

    /** Goals that an enrollment has achieved. */
    record Achieved(List<String> goalIds) {}

    /** Achievement that is new, and whether it is the first of its enrollment, which exits then. */
    record Verdict(Achievement achievement, boolean exits) {
        Exit exit() {
            return new Exit(achievement.enrollmentId, achievement.goalId);
        }
    }

    record Exit(String enrollmentId, String goalId) {}

    /** Lets an enrollment achieve each goal once. */
    static final class Once implements FixedKeyProcessor<String, Achievement, Verdict> {
        private FixedKeyProcessorContext<String, Verdict> context;
        private KeyValueStore<String, Achieved> achieved;

        @Override
        public void init(FixedKeyProcessorContext<String, Verdict> context) {
            this.context = context;
            achieved = context.getStateStore("achieved");
        }

        @Override
        public void process(FixedKeyRecord<String, Achievement> record) {
            Achievement achievement = record.value();
            String key = achievement.tenantid + ":" + achievement.enrollmentId;
            Achieved before = achieved.get(key);
            List<String> goalIds = before == null ? new ArrayList<>() : new ArrayList<>(before.goalIds);
            if (goalIds.contains(achievement.goalId)) {
                return;
            }
            goalIds.add(achievement.goalId);
            achieved.put(key, new Achieved(goalIds));
            context.forward(record.withValue(new Verdict(achievement, before == null)));
        }
    }

    static final class OnceSupplier implements FixedKeyProcessorSupplier<String, Achievement, Verdict> {
        @Override
        public FixedKeyProcessor<String, Achievement, Verdict> get() {
            return new Once();
        }

        @Override
        public Set<StoreBuilder<?>> stores() {
            return Set.of(Stores.keyValueStoreBuilder(
                    Stores.persistentKeyValueStore("achieved"), Serdes.String(), json(Achieved.class)));
        }
    }

    record Topics(String enrollments, String goals, String achievements, String exits, List<String> events) {}

    static Topology topology(Topics topics, Properties config) {
        StreamsBuilder builder = new StreamsBuilder();
        KTable<String, Enrollments> enrollments =
                builder.table(topics.enrollments, valuesOf(Enrollments.class), Materialized.as("enrollments"));
        // In memory, since each event asks for its goals and the table is read anew at each start.
        GlobalKTable<String, Goals> goals = builder.globalTable(
                topics.goals, valuesOf(Goals.class), Materialized.as(Stores.inMemoryKeyValueStore("goals")));
        KStream<String, Event> events = builder.stream(topics.events, valuesOf(Event.class));
        KStream<String, Verdict> verdicts = events.flatMapValues(Event::candidates)
                .join(goals, (key, candidate) -> candidate.goalKey, (candidate, found) -> found.hitBy(candidate.event))
                .flatMapValues(hits -> hits)
                .join(enrollments, (hit, found) -> found.achievedBy(hit))
                .flatMapValues(achievements -> achievements)
                .processValues(new OnceSupplier());
        verdicts.mapValues(Verdict::achievement)
                .to(topics.achievements, Produced.with(Serdes.String(), json(Achievement.class)));
        verdicts.filter((key, verdict) -> verdict.exits)
                .mapValues(Verdict::exit)
                .to(topics.exits, Produced.with(Serdes.String(), json(Exit.class)));
        return builder.build(config);
    }

    private static <T> Consumed<String, T> valuesOf(Class<T> type) {
        return Consumed.with(Serdes.String(), json(type));
    }

    private static final ObjectMapper JSON = JsonMapper.builder()
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .build();

    private static <T> Serde<T> json(Class<T> type) {
        ObjectReader reader = JSON.readerFor(type);
        ObjectWriter writer = JSON.writerFor(type);
        return Serdes.serdeFrom(
                (topic, value) -> {
                    try {
                        return value == null ? null : writer.writeValueAsBytes(value);
                    } catch (JsonProcessingException error) {
                        throw new SerializationException(error);
                    }
                },
                (topic, bytes) -> {
                    try {
                        return bytes == null ? null : reader.readValue(bytes);
                    } catch (IOException error) {
                        throw new SerializationException(error);
                    }
                });
    }

    public static void main(String[] args) throws IOException {
        Properties config = new Properties();
        try (Reader file = Files.newBufferedReader(Path.of(args[0]))) {
            config.load(file);
        }
        List<String> topics = List.of(args).subList(1, args.length);
        Topology topology = topology(
                new Topics(topics.get(0), topics.get(1), topics.get(2), topics.get(3), topics.subList(4, topics.size())),
                config);
        KafkaStreams streams = new KafkaStreams(topology, config);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }
}
