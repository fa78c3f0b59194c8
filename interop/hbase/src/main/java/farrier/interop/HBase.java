package farrier.interop;

import java.io.IOException;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hbase.HBaseConfiguration;
import org.apache.hadoop.hbase.TableExistsException;
import org.apache.hadoop.hbase.TableName;
import org.apache.hadoop.hbase.client.Admin;
import org.apache.hadoop.hbase.client.ColumnFamilyDescriptorBuilder;
import org.apache.hadoop.hbase.client.Connection;
import org.apache.hadoop.hbase.client.ConnectionFactory;
import org.apache.hadoop.hbase.client.Get;
import org.apache.hadoop.hbase.client.Put;
import org.apache.hadoop.hbase.client.Result;
import org.apache.hadoop.hbase.client.ResultScanner;
import org.apache.hadoop.hbase.client.Scan;
import org.apache.hadoop.hbase.client.Table;
import org.apache.hadoop.hbase.client.TableDescriptorBuilder;
import org.apache.hadoop.hbase.util.Bytes;

/**
 * Rows that are put one by one and scanned over and over while tables are created, each by a client that finds
 * its servers anew, until standard input says END. Every row that was acknowledged must be in every scan that
 * began later; every table must be there.
 *
 * Prints {@code did row N}, {@code did scan N} and {@code did table N} as it goes, {@code ok} and {@code FAIL}
 * verdicts, and {@code END PASSED FAILED} as the last line.
 */
public final class HBase {
    private static final TableName TABLE = TableName.valueOf("rows");
    private static final byte[] FAMILY = Bytes.toBytes("f");
    private static final byte[] COLUMN = Bytes.toBytes("c");
    /** Rows between two lines of progress. */
    private static final int STEP = 100;
    /** Rows that one call of a scan brings. */
    private static final int CACHING = 1000;
    private static final long PUT_PAUSE_MS = 4;
    private static final long SCAN_PAUSE_MS = 500;
    private static final long TABLE_PAUSE_MS = 500;

    private final Configuration configuration = HBaseConfiguration.create();
    private final AtomicBoolean ends = new AtomicBoolean();
    private final Attempt putting = new Attempt();
    private final Attempt scanning = new Attempt();
    private final Attempt creating = new Attempt();
    /** Rows acknowledged so far: those with numbers below this one. */
    private volatile int acknowledged;
    /** Each touched by one thread, then by nobody until that has ended. */
    private int scans;
    private final Set<TableName> created = new TreeSet<>();

    /** The configuration comes from {@code hbase-site.xml} on the class path. */
    public static void main(String[] arguments) throws Exception {
        System.exit(new HBase().run() ? 0 : 1);
    }

    private boolean run() throws Exception {
        try (Connection connection = connect(); Admin admin = connection.getAdmin()) {
            create(admin, TABLE);
            Thread[] threads = {
                putting.thread("put", () -> put(connection)),
                scanning.thread("scan", () -> scan(connection)),
                creating.thread("create", this::createTables),
            };
            for (Thread thread : threads) {
                thread.start();
            }
            Lines.waitForEnd();
            ends.set(true);
            for (Thread thread : threads) {
                thread.join();
            }
            Lines lines = new Lines();
            lines.check("every row was acknowledged", putting.failure(), acknowledged + " rows");
            lines.check("every scan found every acknowledged row", scanning.failure(), scans + " scans");
            scanning.at(() -> scanOnce(connection));
            lines.check("every acknowledged row is there at the end", scanning.failure(), acknowledged + " rows");
            lines.check("every table was created, written and read", creating.failure(), created.size() + " tables");
            lines.check("every table is listed", missing(admin), created.size() + " tables");
            return lines.end();
        }
    }

    private Connection connect() throws IOException {
        return ConnectionFactory.createConnection(configuration);
    }

    private void put(Connection connection) throws Exception {
        try (Table table = connection.getTable(TABLE)) {
            while (!ends.get()) {
                int number = acknowledged;
                table.put(new Put(Bytes.toBytes(number)).addColumn(FAMILY, COLUMN, Bytes.toBytes(number)));
                acknowledged = number + 1;
                if (acknowledged % STEP == 0) {
                    System.out.println("did row " + acknowledged);
                }
                Thread.sleep(PUT_PAUSE_MS);
            }
        }
    }

    private void scan(Connection connection) throws Exception {
        while (!ends.get()) {
            scanOnce(connection);
            scans++;
            System.out.println("did scan " + scans);
            Thread.sleep(SCAN_PAUSE_MS);
        }
    }

    /** Rows are keyed by their big-endian numbers, so that they come in order and without a gap. */
    private void scanOnce(Connection connection) throws Exception {
        int least = acknowledged;
        int next = 0;
        try (Table table = connection.getTable(TABLE);
                ResultScanner rows = table.getScanner(new Scan().setCaching(CACHING))) {
            for (Result row : rows) {
                int number = Bytes.toInt(row.getRow());
                int value = Bytes.toInt(row.getValue(FAMILY, COLUMN));
                if (number != next || value != number) {
                    throw new AssertionError("row " + number + " holds " + value + " and stands where " + next + " should");
                }
                next++;
            }
        }
        if (next < least) {
            throw new AssertionError("a scan found " + next + " rows, and " + least + " were acknowledged before it");
        }
    }

    private void createTables() throws Exception {
        while (!ends.get()) {
            TableName name = TableName.valueOf("table-" + created.size());
            try (Connection connection = connect(); Admin admin = connection.getAdmin()) {
                create(admin, name);
                try (Table table = connection.getTable(name)) {
                    byte[] row = Bytes.toBytes(created.size());
                    table.put(new Put(row).addColumn(FAMILY, COLUMN, row));
                    if (!table.exists(new Get(row))) {
                        throw new AssertionError(name + " lost its row");
                    }
                }
            }
            created.add(name);
            System.out.println("did table " + created.size());
            Thread.sleep(TABLE_PAUSE_MS);
        }
    }

    /** A request may be repeated by the client itself, so that its own table stands in its way. */
    private static void create(Admin admin, TableName name) throws IOException {
        try {
            admin.createTable(TableDescriptorBuilder.newBuilder(name)
                    .setColumnFamily(ColumnFamilyDescriptorBuilder.of(FAMILY))
                    .build());
        } catch (TableExistsException e) {
            if (!admin.isTableAvailable(name)) {
                throw e;
            }
        }
    }

    private String missing(Admin admin) throws IOException {
        Set<TableName> absent = new TreeSet<>(created);
        for (TableName name : admin.listTableNames()) {
            absent.remove(name);
        }
        return absent.isEmpty() ? null : "not listed: " + absent;
    }
}
