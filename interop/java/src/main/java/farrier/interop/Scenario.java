package farrier.interop;

import static farrier.interop.Harness.bytes;
import static farrier.interop.Harness.check;
import static farrier.interop.Harness.equal;
import static farrier.interop.Harness.eventually;
import static farrier.interop.Harness.open;
import static farrier.interop.Harness.refused;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.AsyncCallback;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/** Apache's Java client, unmodified, against the server named by the first argument. */
public final class Scenario {
    private static final int SESSION_MS = 20_000;

    private final String connect;
    private final Harness h;
    private ZooKeeper zk;

    Scenario(String connect, Harness h) {
        this.connect = connect;
        this.h = h;
    }

    public static void main(String[] args) {
        Harness h = new Harness();
        new Scenario(args[0], h).run();
        new Recipes(args[0], h).run();
        h.end();
    }

    void run() {
        h.step("java connect", () -> {
            zk = open(connect, SESSION_MS);
            check(zk.getSessionId() != 0, "session id 0");
            equal(16, zk.getSessionPasswd().length, "password length");
            equal(SESSION_MS, zk.getSessionTimeout(), "negotiated timeout");
            zk.create("/java", bytes("root"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        });
        h.step("java create-read-update-delete", this::crud);
        h.step("java create-modes", this::createModes);
        h.step("java errors", this::errors);
        h.step("java one-shot-watches", this::oneShotWatches);
        h.step("java persistent-watches", this::persistentWatches);
        h.step("java remove-watches", this::removeWatches);
        h.step("java acl-digest", this::aclDigest);
        h.step("java multi", this::multi);
        h.step("java multi-errors", this::multiErrors);
        h.step("java multi-read", this::multiRead);
        h.step("java ephemerals", this::ephemerals);
        h.step("java expiry", this::expiry);
        h.step("java container-and-ttl", this::containerAndTtl);
        h.step("java pipelined-async", this::pipelinedAsync);
        h.step("java whoami-and-counts", this::whoAmIAndCounts);
        h.step("java large-data", this::largeData);
        h.step("java quota", this::quota);
        h.step("java chroot", this::chroot);
        h.step("java re-attach-by-password", this::reattach);
        h.step("java restart-after-kill", () -> acrossRestart("kill"));
        h.step("java restart-after-term", () -> acrossRestart("term"));
        h.step("java close", () -> {
            zk.create("/java/last", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            zk.close();
            try (ZooKeeper other = open(connect, SESSION_MS)) {
                equal(null, other.exists("/java/last", false), "ephemeral after close");
            }
        });
    }

    private void crud() throws Exception {
        Stat created = new Stat();
        equal("/java/a", zk.create("/java/a", bytes("one"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, created), "create2");
        Stat read = new Stat();
        equal(bytes("one"), zk.getData("/java/a", false, read), "data");
        equal(created, read, "stat of create2 and getData");
        equal(read.getCzxid(), read.getMzxid(), "mzxid");
        equal(read.getCzxid(), read.getPzxid(), "pzxid");
        equal(3, read.getDataLength(), "length");
        Stat set = zk.setData("/java/a", bytes("two!"), 0);
        equal(1, set.getVersion(), "version");
        check(set.getMzxid() > set.getCzxid(), "mzxid grows");
        equal(4, set.getDataLength(), "length");
        equal(set, zk.exists("/java/a", false), "stat of setData and exists");
        zk.create("/java/a/child", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        equal(null, zk.getData("/java/a/child", false, null), "null data");
        zk.create("/java/a/empty", new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        equal(new byte[0], zk.getData("/java/a/empty", false, null), "empty data");
        Stat parent = new Stat();
        List<String> children = zk.getChildren("/java/a", false, parent);
        Collections.sort(children);
        equal(Arrays.asList("child", "empty"), children, "children");
        equal(2, parent.getNumChildren(), "numChildren");
        equal(2, parent.getCversion(), "cversion");
        zk.delete("/java/a/child", 0);
        zk.delete("/java/a/empty", -1);
        equal(4, zk.exists("/java/a", false).getCversion(), "cversion after deletes");
        zk.delete("/java/a", 1);
        equal(null, zk.exists("/java/a", false), "deleted");
        zk.create("/java/\u00fcn\u00ef \u2603", bytes("x"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        check(zk.getChildren("/java", false).contains("\u00fcn\u00ef \u2603"), "name beyond ASCII");
        zk.delete("/java/\u00fcn\u00ef \u2603", -1);
    }

    private void createModes() throws Exception {
        zk.create("/java/seq", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        equal("/java/seq/n-0000000000", zk.create("/java/seq/n-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL), "first");
        equal("/java/seq/n-0000000001", zk.create("/java/seq/n-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL), "second");
        equal("/java/seq/0000000002", zk.create("/java/seq/", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL), "bare");
        zk.delete("/java/seq/n-0000000000", -1);
        equal("/java/seq/m-0000000003", zk.create("/java/seq/m-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL), "a deletion gives nothing back");
        equal(zk.getSessionId(), zk.exists("/java/seq/n-0000000001", false).getEphemeralOwner(), "owner");
        equal(0L, zk.exists("/java/seq/m-0000000003", false).getEphemeralOwner(), "no owner");
    }

    private void errors() throws Exception {
        zk.create("/java/e", bytes("e"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create("/java/e/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create("/java/eph", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        refused(Code.NODEEXISTS, () -> zk.create("/java/e", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "create twice");
        refused(Code.NONODE, () -> zk.create("/java/none/x", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "no parent");
        refused(Code.NONODE, () -> zk.getData("/java/none", false, null), "getData");
        refused(Code.NONODE, () -> zk.getChildren("/java/none", false), "getChildren");
        refused(Code.NONODE, () -> zk.getACL("/java/none", null), "getACL");
        refused(Code.BADVERSION, () -> zk.setData("/java/e", null, 7), "setData version");
        refused(Code.BADVERSION, () -> {
            zk.delete("/java/e/c", 7);
            return null;
        }, "delete version");
        refused(Code.NOTEMPTY, () -> {
            zk.delete("/java/e", -1);
            return null;
        }, "not empty");
        refused(Code.NOCHILDRENFOREPHEMERALS, () -> zk.create("/java/eph/x", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "child of an ephemeral");
        refused(Code.INVALIDACL, () -> zk.create("/java/bad", null, Collections.singletonList(new ACL(Perms.ALL, new Id("nothing", "x"))), CreateMode.PERSISTENT), "unknown scheme");
        refused(Code.INVALIDACL, () -> zk.setACL("/java/e", Collections.singletonList(new ACL(Perms.ALL, new Id("ip", "no address"))), -1), "bad ip");
        zk.delete("/java/eph", -1);
    }

    private void oneShotWatches() throws Exception {
        Harness.Seen exists = new Harness.Seen();
        Harness.Seen data = new Harness.Seen();
        Harness.Seen child = new Harness.Seen();
        equal(null, zk.exists("/java/w", exists), "absent");
        zk.create("/java/w", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        equal("NodeCreated /java/w", exists.next(), "exists watch");
        zk.getData("/java/w", data, null);
        zk.getChildren("/java/w", child);
        zk.setData("/java/w", bytes("1"), -1);
        equal("NodeDataChanged /java/w", data.next(), "data watch");
        zk.setData("/java/w", bytes("2"), -1);
        zk.create("/java/w/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        equal("NodeChildrenChanged /java/w", child.next(), "child watch");
        check(data.none(), "a data watch fires once");
        zk.exists("/java/w/c", exists);
        zk.getChildren("/java/w", child);
        zk.delete("/java/w/c", -1);
        equal("NodeDeleted /java/w/c", exists.next(), "deletion");
        equal("NodeChildrenChanged /java/w", child.next(), "child deletion");
        zk.getChildren("/java/w", child);
        zk.delete("/java/w", -1);
        equal("NodeDeleted /java/w", child.next(), "deletion through a child watch");
    }

    private void persistentWatches() throws Exception {
        Harness.Seen one = new Harness.Seen();
        Harness.Seen tree = new Harness.Seen();
        zk.create("/java/p", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.addWatch("/java/p", one, AddWatchMode.PERSISTENT);
        zk.addWatch("/java/p", tree, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.setData("/java/p", bytes("1"), -1);
        zk.setData("/java/p", bytes("2"), -1);
        zk.create("/java/p/a", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create("/java/p/a/b", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.delete("/java/p/a/b", -1);
        zk.delete("/java/p/a", -1);
        for (String want : List.of("NodeDataChanged /java/p", "NodeDataChanged /java/p", "NodeChildrenChanged /java/p", "NodeChildrenChanged /java/p")) {
            equal(want, one.next(), "persistent");
        }
        for (String want : List.of("NodeDataChanged /java/p", "NodeDataChanged /java/p", "NodeCreated /java/p/a", "NodeCreated /java/p/a/b", "NodeDeleted /java/p/a/b", "NodeDeleted /java/p/a")) {
            equal(want, tree.next(), "recursive");
        }
        check(one.none() && tree.none(), "nothing more");
        zk.removeAllWatches("/java/p", Watcher.WatcherType.Any, false);
    }

    private void removeWatches() throws Exception {
        Harness.Seen seen = new Harness.Seen();
        zk.create("/java/r", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.getData("/java/r", seen, null);
        zk.removeWatches("/java/r", seen, Watcher.WatcherType.Data, false);
        equal("DataWatchRemoved /java/r", seen.next(), "removal is told");
        zk.setData("/java/r", bytes("1"), -1);
        check(seen.none(), "a removed watch is silent");
        refused(Code.NOWATCHER, () -> {
            zk.removeAllWatches("/java/r", Watcher.WatcherType.Children, false);
            return null;
        }, "nothing to remove");
    }

    private void aclDigest() throws Exception {
        try (ZooKeeper alice = open(connect, SESSION_MS); ZooKeeper bob = open(connect, SESSION_MS)) {
            refused(Code.INVALIDACL, () -> bob.create("/java/nobody", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT), "auth without identity");
            alice.addAuthInfo("digest", bytes("alice:secret"));
            bob.addAuthInfo("digest", bytes("bob:other"));
            String id = DigestAuthenticationProvider.generateDigest("alice:secret");
            alice.create("/java/alice", bytes("hers"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            Stat stat = new Stat();
            equal(Collections.singletonList(new ACL(Perms.ALL, new Id("digest", id))), alice.getACL("/java/alice", stat), "auth became digest");
            equal(0, stat.getAversion(), "aversion");
            refused(Code.NOAUTH, () -> bob.getData("/java/alice", false, null), "bob reads");
            refused(Code.NOAUTH, () -> bob.setData("/java/alice", null, -1), "bob writes");
            refused(Code.NOAUTH, () -> bob.setACL("/java/alice", Ids.OPEN_ACL_UNSAFE, -1), "bob administers");
            refused(Code.NOAUTH, () -> bob.create("/java/alice/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "bob creates");
            refused(Code.NOAUTH, () -> bob.getACL("/java/alice", null), "bob reads the list");
            List<ACL> mixed = new ArrayList<>(Collections.singletonList(new ACL(Perms.ALL, new Id("digest", id))));
            mixed.add(new ACL(Perms.READ, Ids.ANYONE_ID_UNSAFE));
            equal(1, alice.setACL("/java/alice", mixed, 0).getAversion(), "aversion after setACL");
            refused(Code.BADVERSION, () -> alice.setACL("/java/alice", mixed, 0), "stale aversion");
            equal(bytes("hers"), bob.getData("/java/alice", false, null), "bob reads now");
            List<ACL> shown = bob.getACL("/java/alice", null);
            equal("alice:x", shown.get(0).getId().getId(), "the digest is hidden from a reader");
            alice.create("/java/ip", null, Collections.singletonList(new ACL(Perms.ALL, new Id("ip", "127.0.0.0/8"))), CreateMode.PERSISTENT);
            bob.setData("/java/ip", bytes("by address"), -1);
        }
        try (ZooKeeper root = open(connect, SESSION_MS)) {
            root.addAuthInfo("digest", bytes("super:farrier"));
            root.create("/java/locked", null, Collections.singletonList(new ACL(Perms.READ, new Id("digest", "x:y"))), CreateMode.PERSISTENT);
            root.setData("/java/locked", bytes("super may"), -1);
        }
        try (ZooKeeper bad = open(connect, SESSION_MS)) {
            bad.addAuthInfo("nothing", bytes("x"));
            eventually(() -> bad.getState() == ZooKeeper.States.AUTH_FAILED, "unknown scheme fails authentication");
        }
    }

    private void multi() throws Exception {
        List<OpResult> results = zk.multi(Arrays.asList(
                Op.create("/java/m", bytes("m"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.create("/java/m/s-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL),
                Op.setData("/java/m", bytes("mm"), 0),
                Op.check("/java/m", 1),
                Op.create("/java/m/gone", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.delete("/java/m/gone", 0)));
        equal(6, results.size(), "results");
        equal("/java/m/s-0000000000", ((OpResult.CreateResult) results.get(1)).getPath(), "sequence inside");
        equal(1, ((OpResult.SetDataResult) results.get(2)).getStat().getVersion(), "set inside");
        Stat m = zk.exists("/java/m", false);
        equal(m.getCzxid(), m.getMzxid(), "one zxid for all");
        equal(m.getCzxid(), zk.exists("/java/m/s-0000000000", false).getCzxid(), "one zxid for all");
        equal(3, m.getCversion(), "cversion");
        equal(0, zk.multi(Collections.emptyList()).size(), "empty multi");
    }

    private void multiErrors() throws Exception {
        try {
            zk.multi(Arrays.asList(
                    Op.create("/java/m2", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                    Op.delete("/java/none", -1),
                    Op.setData("/java/m", null, -1)));
            check(false, "a failing multi succeeded");
        } catch (KeeperException e) {
            equal(Code.NONODE, e.code(), "code");
            List<Integer> codes = new ArrayList<>();
            for (OpResult r : e.getResults()) {
                codes.add(((OpResult.ErrorResult) r).getErr());
            }
            equal(Arrays.asList(0, Code.NONODE.intValue(), Code.RUNTIMEINCONSISTENCY.intValue()), codes, "codes of the parts");
        }
        equal(null, zk.exists("/java/m2", false), "nothing was applied");
        equal(1, zk.exists("/java/m", false).getVersion(), "nothing was applied");
    }

    private void multiRead() throws Exception {
        List<OpResult> results = zk.multi(Arrays.asList(Op.getData("/java/m"), Op.getChildren("/java/m"), Op.getData("/java/none")));
        equal(bytes("mm"), ((OpResult.GetDataResult) results.get(0)).getData(), "data");
        equal(List.of("s-0000000000"), ((OpResult.GetChildrenResult) results.get(1)).getChildren(), "children");
        equal(Code.NONODE.intValue(), ((OpResult.ErrorResult) results.get(2)).getErr(), "error of one part");
    }

    private void ephemerals() throws Exception {
        Harness.Seen seen = new Harness.Seen();
        ZooKeeper owner = open(connect, SESSION_MS);
        owner.create("/java/eph-1", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        owner.create("/java/eph-2", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        List<String> listed = owner.getEphemerals("/java");
        Collections.sort(listed);
        equal(Arrays.asList("/java/eph-1", "/java/eph-2"), listed, "getEphemerals");
        equal(owner.getSessionId(), zk.exists("/java/eph-1", seen).getEphemeralOwner(), "owner");
        owner.close();
        equal("NodeDeleted /java/eph-1", seen.next(), "removed on close");
        equal(null, zk.exists("/java/eph-2", false), "all removed");
    }

    private void expiry() throws Exception {
        // The client's threads are gone, its session isn't: only the server's clock can end it.
        Harness.Seen seen = new Harness.Seen();
        ZooKeeper owner = open(connect, 2_000);
        owner.create("/java/eph-3", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        check(zk.exists("/java/eph-3", seen) != null, "there");
        long id = owner.getSessionId();
        byte[] password = owner.getSessionPasswd();
        abandon(owner);
        equal("NodeDeleted /java/eph-3", seen.next(), "removed on expiry");
        CompletableFuture<Void> expired = new CompletableFuture<>();
        ZooKeeper late = new ZooKeeper(connect, 2_000, e -> {
            if (e.getState() == Watcher.Event.KeeperState.Expired) {
                expired.complete(null);
            }
        }, id, password);
        expired.get(Harness.WAIT_S, TimeUnit.SECONDS);
        late.close();
    }

    /** Cuts the connection of a client without closing its session. */
    private static void abandon(ZooKeeper client) throws Exception {
        java.lang.reflect.Field cnxn = ZooKeeper.class.getDeclaredField("cnxn");
        cnxn.setAccessible(true);
        Object clientCnxn = cnxn.get(client);
        java.lang.reflect.Method disconnect = clientCnxn.getClass().getDeclaredMethod("disconnect");
        disconnect.setAccessible(true);
        disconnect.invoke(clientCnxn);
    }

    private void containerAndTtl() throws Exception {
        zk.create("/java/box", null, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        zk.create("/java/box/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Stat stat = new Stat();
        zk.create("/java/ttl", bytes("t"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, stat, 300);
        String seq = zk.create("/java/ttl-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, null, 3_600_000);
        check(seq.matches("/java/ttl-\\d{10}"), "sequential TTL node " + seq);
        equal(0L, stat.getEphemeralOwner(), "a TTL node shows no owner");
        equal(0L, zk.exists("/java/box", false).getEphemeralOwner(), "a container shows no owner");
        eventually(() -> zk.exists("/java/ttl", false) == null, "TTL passed");
        check(zk.exists(seq, false) != null, "a long TTL stays");
        check(zk.exists("/java/box", false) != null, "a container with a child stays");
        zk.delete("/java/box/c", -1);
        eventually(() -> zk.exists("/java/box", false) == null, "empty container removed");
    }

    private void pipelinedAsync() throws Exception {
        zk.create("/java/async", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        int n = 500;
        List<CompletableFuture<Integer>> codes = new ArrayList<>();
        List<Integer> order = Collections.synchronizedList(new ArrayList<>());
        for (int i = 0; i < n; i++) {
            int index = i;
            CompletableFuture<Integer> code = new CompletableFuture<>();
            codes.add(code);
            AsyncCallback.StringCallback done = (rc, path, ctx, name) -> {
                order.add(index);
                code.complete(rc);
            };
            zk.create("/java/async/" + i, bytes("v" + i), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, done, null);
            if (i % 10 == 9) {
                CompletableFuture<Integer> read = new CompletableFuture<>();
                codes.add(read);
                zk.getData("/java/async/" + i, false, (rc, path, ctx, data, stat) ->
                        read.complete(rc == 0 && Arrays.equals(data, bytes("v" + index)) ? 0 : 1), null);
            }
        }
        for (CompletableFuture<Integer> code : codes) {
            equal(0, code.get(Harness.WAIT_S, TimeUnit.SECONDS), "asynchronous call");
        }
        for (int i = 0; i < n; i++) {
            equal(i, order.get(i), "order of replies");
        }
        equal(n, zk.getChildren("/java/async", false).size(), "all there");
    }

    private void whoAmIAndCounts() throws Exception {
        try (ZooKeeper carol = open(connect, SESSION_MS)) {
            carol.addAuthInfo("digest", bytes("carol:pw"));
            List<String> who = new ArrayList<>();
            for (ClientInfo info : carol.whoAmI()) {
                who.add(info.getAuthScheme() + ":" + info.getUser());
            }
            Collections.sort(who);
            equal(Arrays.asList("digest:carol", "ip:127.0.0.1"), who, "whoAmI");
        }
        equal(500, zk.getAllChildrenNumber("/java/async"), "getAllChildrenNumber");
        CompletableFuture<Integer> synced = new CompletableFuture<>();
        zk.sync("/java", (rc, path, ctx) -> synced.complete(rc), null);
        equal(0, synced.get(Harness.WAIT_S, TimeUnit.SECONDS), "sync");
    }

    private void largeData() throws Exception {
        byte[] large = new byte[1_000_000];
        for (int i = 0; i < large.length; i++) {
            large[i] = (byte) (i * 31);
        }
        zk.create("/java/large", large, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        equal(large, zk.getData("/java/large", false, null), "a megabyte comes back");
        zk.delete("/java/large", -1);
    }

    private void quota() throws Exception {
        zk.create("/java/q", bytes("12345"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        for (String path : List.of("/zookeeper/quota/java", "/zookeeper/quota/java/q")) {
            zk.create(path, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
        zk.create("/zookeeper/quota/java/q/zookeeper_limits", bytes("count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=3"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create("/zookeeper/quota/java/q/zookeeper_stats", bytes("count=0,bytes=0"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create("/java/q/1", bytes("x"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create("/java/q/2", bytes("x"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        refused(Code.QUOTAEXCEEDED, () -> zk.create("/java/q/3", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "over the count");
        String stats = new String(zk.getData("/zookeeper/quota/java/q/zookeeper_stats", false, null), java.nio.charset.StandardCharsets.UTF_8);
        check(stats.startsWith("count=3,bytes=7"), "statistics are kept: " + stats);
    }

    private void chroot() throws Exception {
        zk.create("/java/chroot", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        try (ZooKeeper inside = open(connect + "/java/chroot", SESSION_MS)) {
            Harness.Seen seen = new Harness.Seen();
            inside.exists("/x", seen);
            equal("/x", inside.create("/x", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "create");
            equal("NodeCreated /x", seen.next(), "event");
        }
        check(zk.exists("/java/chroot/x", false) != null, "outside");
    }

    private void reattach() throws Exception {
        ZooKeeper first = open(connect, SESSION_MS);
        first.create("/java/attached", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        long id = first.getSessionId();
        byte[] password = first.getSessionPasswd();
        abandon(first);
        CompletableFuture<Void> connected = new CompletableFuture<>();
        try (ZooKeeper second = new ZooKeeper(connect, SESSION_MS, e -> {
            if (e.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.complete(null);
            }
        }, id, password)) {
            connected.get(Harness.WAIT_S, TimeUnit.SECONDS);
            equal(id, second.getSessionId(), "same session");
            equal(List.of("/java/attached"), second.getEphemerals(), "its ephemerals");
        }
        equal(null, zk.exists("/java/attached", false), "closed by the second client");
    }

    private void acrossRestart(String how) throws Exception {
        String base = "/java/restart-" + how;
        zk.create(base, bytes("before"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        String eph = zk.create(base + "/eph-", bytes("e"), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL);
        long session = zk.getSessionId();
        Harness.Seen data = new Harness.Seen();
        Harness.Seen child = new Harness.Seen();
        Harness.Seen missing = new Harness.Seen();
        Harness.Seen tree = new Harness.Seen();
        Stat before = new Stat();
        zk.getData(base, data, before);
        zk.getChildren(base, child);
        zk.exists(base + "/later", missing);
        zk.addWatch(base, tree, AddWatchMode.PERSISTENT_RECURSIVE);
        h.restart(how);
        eventually(() -> {
            try {
                return zk.exists(base, false) != null;
            } catch (KeeperException.ConnectionLossException e) {
                return false;
            }
        }, "reconnected");
        equal(session, zk.getSessionId(), "the session survived");
        equal(session, zk.exists(eph, false).getEphemeralOwner(), "its ephemeral survived");
        Stat after = new Stat();
        equal(bytes("before"), zk.getData(base, false, after), "data survived");
        equal(before, after, "stat survived");
        check(data.none() && child.none() && missing.none(), "no event for what did not change");
        zk.setData(base, bytes("after"), 0);
        equal("NodeDataChanged " + base, data.next(), "data watch re-armed");
        equal("NodeDataChanged " + base, tree.next(), "recursive watch re-armed");
        zk.create(base + "/later", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        equal("NodeCreated " + base + "/later", missing.next(), "exists watch re-armed");
        equal("NodeChildrenChanged " + base, child.next(), "child watch re-armed");
        equal("NodeCreated " + base + "/later", tree.next(), "recursive watch re-armed");
        equal(base + "/eph-0000000002", zk.create(base + "/eph-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL), "sequence goes on");
        zk.removeAllWatches(base, Watcher.WatcherType.Any, false);
    }
}
