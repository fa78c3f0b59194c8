package farrier.interop;

import static farrier.interop.Harness.bytes;
import static farrier.interop.Harness.check;
import static farrier.interop.Harness.open;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/**
 * Writes every kind of znode and change through the wire below {@code /fill/ROUND}, changes what earlier rounds wrote,
 * and leaves sessions open: {@code Fill CONNECT ROUND SESSIONS}. The open sessions are appended to the file SESSIONS as
 * lines of id, password and the paths of their ephemerals, for {@link Attach}.
 */
public final class Fill {
    private static final int SESSION_MS = 600_000;
    private static final String TTL_LONG = "/ttl";

    private final String connect;
    private final int round;
    private final String base;
    private final Random random;
    private ZooKeeper zk;
    private int writes;

    private Fill(String connect, int round) {
        this.connect = connect;
        this.round = round;
        this.base = "/fill/" + round;
        this.random = new Random(round);
    }

    public static void main(String[] args) throws Exception {
        Fill fill = new Fill(args[0], Integer.parseInt(args[1]));
        fill.run(Path.of(args[2]));
        System.out.println("END " + fill.writes + " 0");
        System.out.flush();
        // No close: the sessions stay open.
        Runtime.getRuntime().halt(0);
    }

    private void run(Path sessions) throws Exception {
        zk = open(connect, SESSION_MS);
        zk.addAuthInfo("digest", bytes("super:farrier"));
        if (zk.exists("/fill", false) == null) {
            create("/fill", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
        create(base, bytes("round " + round), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        data();
        acls();
        kinds();
        multis();
        failures();
        quotas();
        List<ZooKeeper> open = ephemerals();
        bulk();
        earlier();
        tail();
        StringBuilder lines = new StringBuilder();
        for (ZooKeeper session : open) {
            TreeSet<String> paths = new TreeSet<>(session.getEphemerals("/"));
            lines.append(Long.toHexString(session.getSessionId())).append(' ')
                    .append(Base64.getEncoder().encodeToString(session.getSessionPasswd())).append(' ')
                    .append(String.join(",", paths)).append('\n');
        }
        Files.writeString(sessions, lines, java.nio.file.StandardOpenOption.CREATE, java.nio.file.StandardOpenOption.APPEND);
    }

    private String create(String path, byte[] data, List<ACL> acl, CreateMode mode) throws Exception {
        writes++;
        return zk.create(path, data, acl, mode);
    }

    private void data() throws Exception {
        create(base + "/null", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        create(base + "/empty", new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        byte[] large = new byte[900_000];
        random.nextBytes(large);
        create(base + "/large", large, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        create(base + "/\u00fcn\u00ef \u2603", bytes("\u2603"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        create(base + "/changed", bytes("0"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        for (int i = 1; i <= 5; i++) {
            zk.setData(base + "/changed", bytes("value " + i), i - 1);
            writes++;
        }
        create(base + "/to-null", bytes("x"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.setData(base + "/to-null", null, -1);
        create(base + "/to-empty", bytes("x"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.setData(base + "/to-empty", new byte[0], -1);
        StringBuilder deep = new StringBuilder(base);
        for (int i = 0; i < 30; i++) {
            create(deep.append("/deep").toString(), bytes("level " + i), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
        writes += 2;
    }

    private void acls() throws Exception {
        String alice = DigestAuthenticationProvider.generateDigest("alice:secret");
        List<List<ACL>> lists = Arrays.asList(
                Ids.READ_ACL_UNSAFE,
                Collections.singletonList(new ACL(Perms.ALL, new Id("digest", alice))),
                Collections.singletonList(new ACL(Perms.READ | Perms.WRITE, new Id("ip", "127.0.0.0/8"))),
                Collections.singletonList(new ACL(Perms.ALL, new Id("ip", "10.1.2.3"))),
                Arrays.asList(new ACL(Perms.ADMIN, new Id("digest", alice)), new ACL(Perms.READ, Ids.ANYONE_ID_UNSAFE),
                        new ACL(Perms.CREATE | Perms.DELETE, new Id("ip", "192.168.0.0/16"))),
                Collections.singletonList(new ACL(round, new Id("digest", "round" + round + ":x"))));
        for (int i = 0; i < lists.size(); i++) {
            create(base + "/acl-" + i, bytes("acl " + i), lists.get(i), CreateMode.PERSISTENT);
            create(base + "/set-acl-" + i, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            zk.setACL(base + "/set-acl-" + i, lists.get(i), 0);
            zk.setACL(base + "/set-acl-" + i, lists.get((i + 1) % lists.size()), 1);
            writes += 2;
        }
        try (ZooKeeper user = open(connect, 20_000)) {
            user.addAuthInfo("digest", bytes("alice:secret"));
            user.create(base + "/acl-auth", bytes("hers"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            writes += 3;
        }
    }

    private void kinds() throws Exception {
        create(base + "/container", bytes("c"), Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        create(base + "/container/child", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        create(base + "/container-new", null, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        create(base + "/container-used", null, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        create(base + "/container-used/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.delete(base + "/container-used/c", -1);
        ttl(base + TTL_LONG, CreateMode.PERSISTENT_WITH_TTL, 1_000_000_000L);
        ttl(base + "/ttl-max", CreateMode.PERSISTENT_WITH_TTL, 0xFF_FFFF_FFFFL);
        ttl(base + "/ttl-short", CreateMode.PERSISTENT_WITH_TTL, 1);
        ttl(base + "/ttl-seq-", CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, 1_000_000_000L);
        create(base + "/seq", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        for (int i = 0; i < 12; i++) {
            create(base + "/seq/n-", bytes("" + i), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
        }
        for (int i = 0; i < 12; i += 3) {
            zk.delete(base + String.format("/seq/n-%010d", i), 0);
        }
        writes += 5;
    }

    private void ttl(String path, CreateMode mode, long ttl) throws Exception {
        zk.create(path, bytes("ttl " + ttl), Ids.OPEN_ACL_UNSAFE, mode, null, ttl);
        writes++;
    }

    private void multis() throws Exception {
        String m = base + "/multi";
        zk.multi(Arrays.asList(
                Op.create(m, bytes("m"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.create(m + "/s-", bytes("1"), Ids.READ_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL),
                Op.create(m + "/s-", bytes("2"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL),
                Op.create(m + "/container", null, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER),
                Op.create(m + "/container/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.create(m + "/ttl", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, 1_000_000_000L),
                Op.create(m + "/gone", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.setData(m, bytes("mm"), 0),
                Op.check(m, 1),
                Op.delete(m + "/gone", 0)));
        zk.multi(Collections.emptyList());
        zk.multi(Arrays.asList(Op.check(m, 1)));
        writes += 3;
        for (int i = 0; i < 3; i++) {
            try {
                zk.multi(Arrays.asList(
                        Op.create(m + "/never", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                        Op.setData(m, bytes("never"), 1),
                        Op.delete(m + "/none", -1),
                        Op.check(m, -1)));
                check(false, "a failing multi succeeded");
            } catch (KeeperException.NoNodeException e) {
                writes++;
            }
        }
    }

    /** Refused requests leave a transaction too. */
    private void failures() throws Exception {
        for (int i = 0; i < 4; i++) {
            try {
                zk.create(base, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
                check(false, "created twice");
            } catch (KeeperException.NodeExistsException e) {
                writes++;
            }
            try {
                zk.setData(base + "/none", null, -1);
                check(false, "set what isn't there");
            } catch (KeeperException.NoNodeException e) {
                writes++;
            }
        }
    }

    private void quotas() throws Exception {
        String limited = base + "/limited";
        create(limited, bytes("12345"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        create(limited + "/before", bytes("123"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        StringBuilder path = new StringBuilder("/zookeeper/quota");
        for (String part : limited.substring(1).split("/")) {
            path.append('/').append(part);
            if (zk.exists(path.toString(), false) == null) {
                create(path.toString(), null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            }
        }
        create(path + "/zookeeper_limits", bytes("count=100,bytes=100000=;byteHardLimit=200000;countHardLimit=200"),
                Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        create(path + "/zookeeper_stats", bytes("count=0,bytes=0"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        for (int i = 0; i < 6; i++) {
            create(limited + "/after-" + i, new byte[i * 10], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
        zk.setData(limited + "/after-0", new byte[33], -1);
        zk.setData(limited + "/after-1", null, -1);
        zk.delete(limited + "/after-2", -1);
        writes += 3;
    }

    private List<ZooKeeper> ephemerals() throws Exception {
        create(base + "/members", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        List<ZooKeeper> open = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            ZooKeeper session = open(connect, SESSION_MS);
            open.add(session);
            for (int k = 0; k < i; k++) {
                session.create(base + "/members/m" + i + "-", bytes("s" + i), Ids.OPEN_ACL_UNSAFE,
                        k % 2 == 0 ? CreateMode.EPHEMERAL_SEQUENTIAL : CreateMode.EPHEMERAL);
            }
            writes += 1 + i;
        }
        // Sessions that end before the kill, with what they leave behind in the log.
        for (int i = 0; i < 3; i++) {
            try (ZooKeeper session = open(connect, 20_000)) {
                session.create(base + "/members/closed-" + i, null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
                session.create(base + "/members/kept-" + i, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            }
            writes += 4;
        }
        return open;
    }

    /** Many changes in flight, so that the server takes snapshots while it writes. */
    private void bulk() throws Exception {
        String bulk = base + "/bulk";
        create(bulk, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        List<CompletableFuture<Integer>> replies = new ArrayList<>();
        for (int i = 0; i < 1500; i++) {
            CompletableFuture<Integer> reply = new CompletableFuture<>();
            replies.add(reply);
            byte[] data = new byte[random.nextInt(400)];
            random.nextBytes(data);
            String earlier = bulk + "/" + random.nextInt(i + 1);
            switch (i % 5) {
                case 3:
                    zk.setData(earlier, data, -1, (rc, p, c, s) -> reply.complete(rc), null);
                    break;
                case 4:
                    zk.delete(earlier, -1, (rc, p, c) -> reply.complete(rc), null);
                    break;
                default:
                    zk.create(bulk + "/" + i, data, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, p, c, n) -> reply.complete(rc), null);
            }
        }
        for (CompletableFuture<Integer> reply : replies) {
            int rc = reply.get(Harness.WAIT_S, TimeUnit.SECONDS);
            check(rc == 0 || rc == KeeperException.Code.NONODE.intValue(), "bulk: code " + rc);
            writes++;
        }
    }

    /** Changes what each earlier round, of whichever server, has written. */
    private void earlier() throws Exception {
        for (int r = 1; r < round; r++) {
            String old = "/fill/" + r;
            zk.setData(old + "/changed", bytes("by round " + round), -1);
            zk.setData(old + TTL_LONG, bytes("by round " + round), -1);
            zk.setData(old + "/large", bytes("no longer, since " + round), -1);
            // A list that no other znode has: when a new list comes to two znodes while Apache writes a snapshot, Apache
            // miscounts its users on replay and answers MarshallingError for one of them.
            Id fresh = new Id("digest", "round" + round + ":y" + r);
            zk.setACL(old + "/acl-1", Collections.singletonList(new ACL(Perms.ALL, fresh)), -1);
            create(old + "/seq/n-", bytes("by round " + round), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
            create(old + "/container/by-" + round, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            create(old + "/limited/by-" + round, bytes("xyz"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            create(old + "/members/by-" + round, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            List<String> bulk = zk.getChildren(old + "/bulk", false);
            Collections.sort(bulk);
            for (String name : bulk.subList(0, Math.min(20, bulk.size()))) {
                zk.delete(old + "/bulk/" + name, -1);
                writes++;
            }
            writes += 4;
        }
    }

    /** A few changes one at a time, so that the log goes on behind the newest snapshot. */
    private void tail() throws Exception {
        create(base + "/tail", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        for (int i = 0; i < 10; i++) {
            zk.setData(base + "/tail", bytes("" + i), i);
            writes++;
        }
    }
}
