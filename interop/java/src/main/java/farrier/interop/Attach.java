package farrier.interop;

import static farrier.interop.Harness.WAIT_S;
import static farrier.interop.Harness.equal;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooKeeper;

/**
 * Re-attaches every session that {@link Fill} left open, checks that it still owns its ephemerals, and leaves it open
 * again: {@code Attach CONNECT SESSIONS [CLOSE]}. With CLOSE, that many of the oldest sessions are closed instead and
 * taken out of the file.
 */
public final class Attach {
    public static void main(String[] args) throws Exception {
        Harness h = new Harness();
        int close = args.length > 2 ? Integer.parseInt(args[2]) : 0;
        StringBuilder left = new StringBuilder();
        int index = 0;
        for (String line : Files.readAllLines(Path.of(args[1]))) {
            String[] parts = line.split(" ", -1);
            boolean ending = index++ < close;
            h.step("session " + parts[0] + (ending ? " closed" : ""), () -> attach(args[0], parts, ending));
            if (!ending) {
                left.append(line).append('\n');
            }
        }
        Files.writeString(Path.of(args[1]), left);
        h.end();
    }

    private static void attach(String connect, String[] parts, boolean close) throws Exception {
        long id = Long.parseUnsignedLong(parts[0], 16);
        CompletableFuture<Watcher.Event.KeeperState> state = new CompletableFuture<>();
        ZooKeeper zk = new ZooKeeper(connect, 600_000, e -> {
            if (e.getState() != Watcher.Event.KeeperState.Disconnected) {
                state.complete(e.getState());
            }
        }, id, Base64.getDecoder().decode(parts[1]));
        equal(Watcher.Event.KeeperState.SyncConnected, state.get(WAIT_S, TimeUnit.SECONDS), "state");
        equal(id, zk.getSessionId(), "session");
        equal(600_000, zk.getSessionTimeout(), "timeout");
        equal(parts[2], String.join(",", new TreeSet<>(zk.getEphemerals("/"))), "ephemerals");
        for (String path : parts[2].isEmpty() ? new String[0] : parts[2].split(",")) {
            equal(id, zk.exists(path, false).getEphemeralOwner(), "owner of " + path);
        }
        if (close) {
            zk.close();
        }
    }
}
