package stepstream;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** The job in Kafka Streams: a processor with an in-memory store, its cache and its changelog. */
public final class Steps {
    private static final int WINDOW = 64;
    private static final int HOP = 8;
    private static final double LEAST = 11.0;
    private static final String STORE = "windows";

    public record Reading(
            String device_id,
            double timestamp,
            double accel_x,
            double accel_y,
            double accel_z,
            double gyro_x,
            double gyro_y,
            double gyro_z) {}

    public record Event(String event_id, String device_id, double ended_at) {}

    /** The last 64 sizes of a device's acceleration, in a ring, and how many there ever were. */
    static final class Window {
        private int number;
        private final double[] ring = new double[WINDOW];

        boolean add(double size) {
            ring[number % WINDOW] = size;
            number++;
            return number >= WINDOW && number % HOP == 0 && isStep();
        }

        private boolean isStep() {
            double peak = 0;
            for (int place = 28; place < 36; place++) {
                peak = Math.max(peak, ring[(number + place) % WINDOW]);
            }
            if (peak <= LEAST) {
                return false;
            }
            for (double size : ring) {
                if (size > peak) {
                    return false;
                }
            }
            return true;
        }

        static byte[] write(Window window) {
            ByteBuffer buffer = ByteBuffer.allocate(Integer.BYTES + WINDOW * Double.BYTES);
            buffer.putInt(window.number).asDoubleBuffer().put(window.ring);
            return buffer.array();
        }

        static Window read(byte[] bytes) {
            ByteBuffer buffer = ByteBuffer.wrap(bytes);
            Window window = new Window();
            window.number = buffer.getInt();
            buffer.asDoubleBuffer().get(window.ring);
            return window;
        }
    }

    static final class Counter implements FixedKeyProcessor<String, Reading, Event> {
        private FixedKeyProcessorContext<String, Event> context;
        private KeyValueStore<String, Window> windows;

        @Override
        public void init(FixedKeyProcessorContext<String, Event> context) {
            this.context = context;
            this.windows = context.getStateStore(STORE);
        }

        @Override
        public void process(FixedKeyRecord<String, Reading> record) {
            Reading reading = record.value();
            Window window = windows.get(record.key());
            if (window == null) {
                window = new Window();
            }
            double x = reading.accel_x();
            double y = reading.accel_y();
            double z = reading.accel_z();
            boolean found = window.add(Math.sqrt(x * x + y * y + z * z));
            windows.put(record.key(), window);
            if (found) {
                var at = context.recordMetadata().orElseThrow();
                String id = at.topic() + "-" + at.partition() + "-" + at.offset() + "-0";
                context.forward(
                        record.withValue(
                                new Event(id, reading.device_id(), reading.timestamp())));
            }
        }
    }

    public static void main(String[] arguments) {
        ObjectMapper mapper = new ObjectMapper();
        ObjectReader reader =
                mapper.readerFor(Reading.class)
                        .without(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES);
        ObjectWriter writer = mapper.writerFor(Event.class);
        Serde<Reading> readings =
                Serdes.serdeFrom(
                        (topic, reading) -> {
                            throw new UnsupportedOperationException();
                        },
                        (topic, bytes) -> {
                            try {
                                return reader.readValue(bytes);
                            } catch (IOException error) {
                                throw new UncheckedIOException(error);
                            }
                        });
        Serde<Event> events =
                Serdes.serdeFrom(
                        (topic, event) -> {
                            try {
                                return writer.writeValueAsBytes(event);
                            } catch (IOException error) {
                                throw new UncheckedIOException(error);
                            }
                        },
                        (topic, bytes) -> {
                            throw new UnsupportedOperationException();
                        });
        Serde<Window> windows =
                Serdes.serdeFrom(
                        (topic, window) -> Window.write(window),
                        (topic, bytes) -> bytes == null ? null : Window.read(bytes));

        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(
                Stores.keyValueStoreBuilder(
                                Stores.inMemoryKeyValueStore(STORE), Serdes.String(), windows)
                        .withCachingEnabled()
                        .withLoggingEnabled(java.util.Map.of()));
        builder.stream(
                        System.getenv("BENCH_READINGS"),
                        Consumed.with(Serdes.String(), readings))
                .processValues(Counter::new, STORE)
                .to(System.getenv("BENCH_EVENTS"), Produced.with(Serdes.String(), events));

        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, System.getenv("BENCH_GROUP"));
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BENCH_BOOTSTRAP"));
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        properties.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 * 1024 * 1024);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("BENCH_FOLDER"));
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");

        KafkaStreams streams = new KafkaStreams(builder.build(), properties);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }
}
