import java.io.BufferedReader;
import java.io.BufferedWriter;
import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.flink.api.common.JobID;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.datagen.source.DataGeneratorSource;
import org.apache.flink.connector.datagen.source.GeneratorFunction;
import org.apache.flink.runtime.jobmaster.JobResult;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.TableDescriptor;
import org.apache.flink.table.api.TablePipeline;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryStringData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.TimestampType;
import org.apache.flink.table.types.logical.VarCharType;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * The Nexmark queries in Flink SQL: `Nexmark FOLDER OUT QUERY...`.
 *
 * <p>Events lie as rows in Flink's own form on the heap before the clock starts. Each query runs
 * first into a CSV of its answers and then four times into a blackhole, so that the JVM is warm; the
 * fastest counts. The clock runs from the first row that a source takes to the end of the job.
 *
 * <p>q6 is missing: Flink orders the rows of an OVER by a time attribute only, and the time at which
 * an auction closes is none.
 */
public final class Nexmark {
    static final Map<String, RowData[]> EVENTS = new ConcurrentHashMap<>();
    static final AtomicLong FIRST_ROW = new AtomicLong();
    static final int PARALLELISM = 2;
    static final int RUNS = 4;

    private static MiniCluster cluster;
    private static int port;

    private static final Map<String, String> COLUMNS = Map.of(
        "person", "id:n name:s email_address:s credit_card:s city:s state:s date_time:t extra:s",
        "auction", "id:n item_name:s description:s initial_bid:n reserve:n date_time:t expires:t "
            + "seller:n category:n extra:s",
        "bid", "auction:n bidder:n price:n channel:s url:s date_time:t extra:s");

    private static final String COUNTS =
        "(SELECT auction, COUNT(*) AS bids, window_start, window_end FROM TABLE(HOP(TABLE bid, "
            + "DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) "
            + "GROUP BY auction, window_start, window_end)";

    /** What each query reads, then the query; columns are named as its answer's. */
    private static final Map<String, String[]> QUERIES = new LinkedHashMap<>();

    static {
        query("q0", "bid", "SELECT auction, bidder, price, date_time, extra FROM bid");
        query("q1", "bid", "SELECT auction, bidder, date_time, extra, "
            + "CAST(price AS DOUBLE) * CAST(0.908 AS DOUBLE) AS price FROM bid");
        query("q2", "bid", "SELECT auction, date_time, price FROM bid WHERE MOD(auction, 123) = 0");
        query("q3", "person auction", "SELECT A.id AS auction, P.name, P.city, P.state "
            + "FROM auction A JOIN person P ON A.seller = P.id "
            + "WHERE A.category = 10 AND UPPER(P.state) IN ('OR', 'ID', 'CA')");
        query("q4", "auction bid", "SELECT category, AVG(CAST(final AS DOUBLE)) AS average FROM "
            + "(SELECT A.category, MAX(B.price) AS final FROM auction A JOIN bid B "
            + "ON A.id = B.auction AND B.date_time BETWEEN A.date_time AND A.expires "
            + "GROUP BY A.id, A.category) GROUP BY category");
        query("q5", "bid", "SELECT C.window_end AS `until`, C.auction, C.bids FROM " + COUNTS
            + " C JOIN (SELECT MAX(bids) AS most, window_start, window_end FROM " + COUNTS
            + " GROUP BY window_start, window_end) M ON C.window_start = M.window_start "
            + "AND C.window_end = M.window_end AND C.bids >= M.most");
        query("q7", "bid", "SELECT B.auction, B.bidder, B.price, B.date_time FROM bid B JOIN ("
            + "SELECT MAX(price) AS highest, window_time AS ended FROM TABLE(TUMBLE(TABLE bid, "
            + "DESCRIPTOR(date_time), INTERVAL '10' SECOND)) "
            + "GROUP BY window_start, window_end, window_time) M ON B.price = M.highest "
            + "AND B.date_time BETWEEN M.ended - INTERVAL '9.999' SECOND AND M.ended");
        query("q8", "person auction", "SELECT P.id, P.name, P.window_start FROM ("
            + "SELECT id, name, window_start, window_end FROM TABLE(TUMBLE(TABLE person, "
            + "DESCRIPTOR(date_time), INTERVAL '10' SECOND)) "
            + "GROUP BY id, name, window_start, window_end) P JOIN ("
            + "SELECT seller, window_start, window_end FROM TABLE(TUMBLE(TABLE auction, "
            + "DESCRIPTOR(date_time), INTERVAL '10' SECOND)) "
            + "GROUP BY seller, window_start, window_end) A ON P.id = A.seller "
            + "AND P.window_start = A.window_start AND P.window_end = A.window_end");
        query("q11", "bid", "SELECT bidder, window_start, window_end, COUNT(*) AS bids FROM TABLE("
            + "SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(date_time), "
            + "INTERVAL '10' SECOND)) GROUP BY bidder, window_start, window_end");
    }

    private static void query(String name, String reads, String sql) {
        QUERIES.put(name, new String[] {reads, sql});
    }

    /** Gives the events of one kind; each of the two source tasks takes every other one. */
    public static final class Replay implements GeneratorFunction<Long, RowData> {
        private final String kind;
        private transient RowData[] rows;
        private transient boolean started;

        Replay(String kind) {
            this.kind = kind;
        }

        @Override
        public void open(SourceReaderContext context) {
            rows = EVENTS.get(kind);
        }

        @Override
        public RowData map(Long number) {
            if (!started) {
                started = true;
                FIRST_ROW.compareAndSet(0, System.nanoTime());
            }
            // The sequence is cut in halves, one per task.
            int half = (rows.length + 1) / 2;
            int place = number.intValue();
            return rows[place < half ? 2 * place : 2 * (place - half) + 1];
        }
    }

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        Path out = Path.of(arguments[1]);
        Configuration settings = new Configuration();
        settings.setString("rest.port", "0");
        settings.setString("taskmanager.memory.network.min", "256m");
        settings.setString("taskmanager.memory.network.max", "256m");
        settings.setString("taskmanager.memory.managed.size", "512m");
        cluster = new MiniCluster(
            new MiniClusterConfiguration.Builder()
                .setConfiguration(settings)
                .setNumTaskManagers(1)
                .setNumSlotsPerTaskManager(PARALLELISM)
                .build());
        cluster.start();
        port = cluster.getRestAddress().get().getPort();
        for (int place = 2; place < arguments.length; place++) {
            String name = arguments[place];
            String[] query = QUERIES.get(name);
            if (query == null) {
                continue;
            }
            long rows = 0;
            for (String kind : query[0].split(" ")) {
                if (!EVENTS.containsKey(kind)) {
                    EVENTS.put(kind, read(folder.resolve(kind + ".csv"), kind));
                }
                rows += EVENTS.get(kind).length;
            }
            answer(query, out.resolve(name + ".csv"));
            report(name, query, rows);
        }
        System.exit(0);
    }

    /** Runs a query and writes its answer. */
    private static void answer(String[] query, Path file) throws Exception {
        TableResult result = tables(query[0]).executeSql(query[1]);
        Map<List<Object>, Integer> answers = new LinkedHashMap<>();
        try (CloseableIterator<Row> rows = result.collect()) {
            while (rows.hasNext()) {
                Row row = rows.next();
                List<Object> values = new ArrayList<>(row.getArity());
                for (int column = 0; column < row.getArity(); column++) {
                    values.add(row.getField(column));
                }
                int sign = row.getKind().shortString().startsWith("-") ? -1 : 1;
                int count = answers.merge(values, sign, Integer::sum);
                if (count == 0) {
                    answers.remove(values);
                }
            }
        }
        try (BufferedWriter writer = Files.newBufferedWriter(file)) {
            writer.write(String.join(",", result.getResolvedSchema().getColumnNames()));
            writer.newLine();
            for (Map.Entry<List<Object>, Integer> entry : answers.entrySet()) {
                StringJoiner line = new StringJoiner(",");
                for (Object value : entry.getKey()) {
                    line.add(
                        value instanceof LocalDateTime time ? micros(time) : String.valueOf(value));
                }
                for (int copy = 0; copy < entry.getValue(); copy++) {
                    writer.write(line.toString());
                    writer.newLine();
                }
            }
        }
    }

    /** Runs a query into nothing a few times and prints how long the fastest took. */
    private static void report(String name, String[] query, long rows) throws Exception {
        OperatingSystemMXBean system =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        double seconds = Double.MAX_VALUE;
        double whole = 0;
        double cpu = 0;
        for (int run = 0; run < RUNS; run++) {
            TableDescriptor nothing = TableDescriptor.forConnector("blackhole").build();
            TablePipeline pipeline =
                tables(query[0]).sqlQuery(query[1]).insertInto(nothing);
            System.gc();
            FIRST_ROW.set(0);
            long cpuBegan = system.getProcessCpuTime();
            long began = System.nanoTime();
            JobID job = pipeline.execute().getJobClient().orElseThrow().getJobID();
            // Asked in the process: the client would poll, up to two seconds apart.
            JobResult result = cluster.requestJobResult(job).get();
            long ended = System.nanoTime();
            result.toJobExecutionResult(Nexmark.class.getClassLoader());
            if ((ended - FIRST_ROW.get()) / 1e9 < seconds) {
                seconds = (ended - FIRST_ROW.get()) / 1e9;
                whole = (ended - began) / 1e9;
                cpu = (system.getProcessCpuTime() - cpuBegan) / 1e9;
            }
        }
        System.out.printf(
            "{\"query\": \"%s\", \"name\": \"flink\", \"version\": \"%s\", \"rows\": %d, "
                + "\"seconds\": %.6f, \"whole_s\": %.6f, \"cpu_s\": %.3f, \"peak_rss_mb\": %.1f}%n",
            name, EnvironmentInformation.getVersion(), rows, seconds, whole, cpu, peakMegabytes());
        System.out.flush();
    }

    private static double peakMegabytes() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM")) {
                return Long.parseLong(line.replaceAll("[^0-9]", "")) / 1024.0;
            }
        }
        return 0;
    }

    /** Makes an environment with a table of each kind of events. */
    private static StreamTableEnvironment tables(String kinds) {
        Configuration settings = new Configuration();
        settings.setString("table.local-time-zone", "UTC");
        settings.setString("pipeline.object-reuse", "true");
        settings.setString("table.exec.mini-batch.enabled", "true");
        settings.setString("table.exec.mini-batch.allow-latency", "2 s");
        settings.setString("table.exec.mini-batch.size", "50000");
        StreamExecutionEnvironment environment =
            StreamExecutionEnvironment.createRemoteEnvironment("localhost", port, settings);
        environment.setParallelism(PARALLELISM);
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
        for (String kind : kinds.split(" ")) {
            RowType type = type(kind);
            DataStream<RowData> stream = environment.fromSource(
                new DataGeneratorSource<>(
                    new Replay(kind), EVENTS.get(kind).length, InternalTypeInfo.of(type)),
                WatermarkStrategy.noWatermarks(), kind);
            Schema.Builder schema = Schema.newBuilder();
            for (RowType.RowField field : type.getFields()) {
                schema.column(field.getName(), DataTypes.of(field.getType()));
            }
            schema.watermark("date_time", "date_time - INTERVAL '4' SECOND");
            tables.createTemporaryView(kind, stream, schema.build());
        }
        return tables;
    }

    private static RowType type(String kind) {
        String[] columns = COLUMNS.get(kind).split(" ");
        LogicalType[] types = new LogicalType[columns.length];
        String[] names = new String[columns.length];
        for (int place = 0; place < columns.length; place++) {
            String[] parts = columns[place].split(":");
            names[place] = parts[0];
            types[place] = switch (parts[1]) {
                case "n" -> new BigIntType();
                case "t" -> new TimestampType(3);
                default -> new VarCharType(VarCharType.MAX_LENGTH);
            };
        }
        return RowType.of(types, names);
    }

    private static RowData[] read(Path file, String kind) throws Exception {
        String[] columns = COLUMNS.get(kind).split(" ");
        List<RowData> rows = new ArrayList<>();
        try (BufferedReader reader = Files.newBufferedReader(file)) {
            reader.readLine();
            for (String line = reader.readLine(); line != null; line = reader.readLine()) {
                String[] values = line.split(",", -1);
                GenericRowData row = new GenericRowData(columns.length);
                for (int place = 0; place < columns.length; place++) {
                    String type = columns[place].split(":")[1];
                    row.setField(place, switch (type) {
                        case "n" -> Long.valueOf(values[place]);
                        case "t" -> TimestampData.fromEpochMillis(
                            Long.parseLong(values[place]) / 1_000);
                        default -> text(values[place]);
                    });
                }
                rows.add(row);
            }
        }
        return rows.toArray(new RowData[0]);
    }

    private static StringData text(String value) {
        BinaryStringData text = BinaryStringData.fromString(value);
        text.ensureMaterialized();
        return text;
    }

    private static String micros(LocalDateTime time) {
        return Long.toString(time.toInstant(ZoneOffset.UTC).toEpochMilli() * 1_000);
    }
}
