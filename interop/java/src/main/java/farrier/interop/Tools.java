package farrier.interop;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import org.apache.zookeeper.server.SnapshotComparer;
import org.apache.zookeeper.server.SnapshotFormatter;
import org.apache.zookeeper.server.persistence.TxnLogToolkit;

/**
 * Has Apache's own tools read every log and snapshot in a directory: {@code Tools VERSION-2}. A tool that
 * gives up ends the process, so that the last line, {@code END}, is missing.
 */
public final class Tools {
    private static final PrintStream OUT = System.out;

    private interface Tool {
        void main(String[] args) throws Exception;
    }

    public static void main(String[] args) throws Exception {
        Harness h = new Harness();
        List<File> logs = files(args[0], "log.");
        List<File> snapshots = files(args[0], "snapshot.");
        h.step("directory holds logs and snapshots", () ->
                Harness.check(!logs.isEmpty() && !snapshots.isEmpty(), logs + " " + snapshots));
        for (File log : logs) {
            h.step("TxnLogToolkit " + log.getName(), () -> {
                String text = output(TxnLogToolkit::main, "-d", log.getPath());
                Harness.check(!text.contains("CRC ERROR") && text.contains("EOF reached after"), excerpt(text));
            });
        }
        for (File snapshot : snapshots) {
            h.step("SnapshotFormatter " + snapshot.getName(), () -> {
                String text = output(SnapshotFormatter::main, "-d", snapshot.getPath());
                Harness.check(text.contains("ZNode Details") && text.contains("Session Details"), excerpt(text));
            });
        }
        for (int i = Math.max(1, snapshots.size() - 2); i < snapshots.size(); i++) {
            String left = snapshots.get(i - 1).getPath();
            String right = snapshots.get(i).getPath();
            h.step("SnapshotComparer " + left.replaceAll(".*/", "") + " " + right.replaceAll(".*/", ""), () -> {
                String text = output(SnapshotComparer::main, "-l", left, "-r", right, "-b", "0", "-n", "0");
                Harness.check(text.contains("All layers compared."), excerpt(text));
            });
        }
        h.end();
    }

    /** The files whose name begins so, in the order of their zxid; a snapshot's suffix names its compression. */
    private static List<File> files(String dir, String prefix) {
        File[] all = new File(dir).listFiles((d, name) -> name.startsWith(prefix));
        List<File> files = new ArrayList<>(Arrays.asList(all == null ? new File[0] : all));
        files.sort(Comparator.comparingLong(f -> Long.parseUnsignedLong(f.getName().split("\\.")[1], 16)));
        return files;
    }

    private static String output(Tool tool, String... args) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        System.setOut(new PrintStream(bytes, true, StandardCharsets.UTF_8));
        try {
            tool.main(args);
        } finally {
            System.setOut(OUT);
        }
        return bytes.toString(StandardCharsets.UTF_8);
    }

    private static String excerpt(String text) {
        return text.substring(Math.max(0, text.length() - 300));
    }
}
