package farrier.interop;

import static farrier.interop.Harness.bytes;
import static farrier.interop.Harness.check;
import static farrier.interop.Harness.equal;
import static farrier.interop.Harness.eventually;

import java.util.List;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.retry.RetryForever;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;

/** Curator's recipes, unmodified, with two clients that contend. */
final class Recipes {
    private final String connect;
    private final Harness h;
    private CuratorFramework one;
    private CuratorFramework two;

    Recipes(String connect, Harness h) {
        this.connect = connect;
        this.h = h;
    }

    void run() {
        h.step("curator connect", () -> {
            one = client();
            two = client();
        });
        h.step("curator lock", this::lock);
        h.step("curator read-write-lock", this::readWriteLock);
        h.step("curator semaphore", this::semaphore);
        h.step("curator leader-latch", this::latch);
        h.step("curator counters", this::counters);
        h.step("curator ttl-node", this::ttlNode);
        h.step("curator cache", this::cache);
        h.step("curator transaction", this::transaction);
        h.step("curator double-barrier", this::barrier);
        h.step("curator our-counters", this::ourCounters);
        h.step("curator our-barriers", this::ourBarriers);
        h.step("curator our-group", this::ourGroup);
        h.step("curator lock-and-node-across-restart", this::acrossRestart);
        h.step("curator farrier-recipes-beside-ours", this::besideOurs);
        h.step("curator close", () -> {
            one.close();
            two.close();
        });
    }

    private CuratorFramework client() throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
                .connectString(connect)
                .sessionTimeoutMs(20_000)
                .connectionTimeoutMs(15_000)
                .retryPolicy(new RetryForever(200))
                .build();
        client.start();
        check(client.blockUntilConnected(Harness.WAIT_S, TimeUnit.SECONDS), "connected");
        return client;
    }

    private void lock() throws Exception {
        InterProcessMutex a = new InterProcessMutex(one, "/curator/lock");
        InterProcessMutex b = new InterProcessMutex(two, "/curator/lock");
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger worst = new AtomicInteger();
        AtomicInteger total = new AtomicInteger();
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<?>> all = new java.util.ArrayList<>();
        for (int t = 0; t < 4; t++) {
            InterProcessMutex mutex = t % 2 == 0 ? a : b;
            all.add(pool.submit(() -> {
                for (int i = 0; i < 10; i++) {
                    check(mutex.acquire(Harness.WAIT_S, TimeUnit.SECONDS), "acquired");
                    try {
                        worst.accumulateAndGet(inside.incrementAndGet(), Math::max);
                        total.incrementAndGet();
                        inside.decrementAndGet();
                    } finally {
                        mutex.release();
                    }
                }
                return null;
            }));
        }
        for (Future<?> f : all) {
            f.get(2 * Harness.WAIT_S, TimeUnit.SECONDS);
        }
        pool.shutdown();
        equal(1, worst.get(), "holders at once");
        equal(40, total.get(), "turns");
        a.acquire();
        check(!b.acquire(300, TimeUnit.MILLISECONDS), "held elsewhere");
        a.release();
        eventually(() -> one.checkExists().forPath("/curator/lock") == null, "the lock's container is swept");
    }

    private void readWriteLock() throws Exception {
        InterProcessReadWriteLock a = new InterProcessReadWriteLock(one, "/curator/rw");
        InterProcessReadWriteLock b = new InterProcessReadWriteLock(two, "/curator/rw");
        a.readLock().acquire();
        check(b.readLock().acquire(Harness.WAIT_S, TimeUnit.SECONDS), "two readers");
        check(!b.writeLock().acquire(300, TimeUnit.MILLISECONDS), "no writer beside readers");
        a.readLock().release();
        b.readLock().release();
        check(b.writeLock().acquire(Harness.WAIT_S, TimeUnit.SECONDS), "a writer alone");
        check(!a.readLock().acquire(300, TimeUnit.MILLISECONDS), "no reader beside a writer");
        b.writeLock().release();
    }

    private void semaphore() throws Exception {
        InterProcessSemaphoreV2 a = new InterProcessSemaphoreV2(one, "/curator/semaphore", 2);
        InterProcessSemaphoreV2 b = new InterProcessSemaphoreV2(two, "/curator/semaphore", 2);
        var first = a.acquire(Harness.WAIT_S, TimeUnit.SECONDS);
        var second = b.acquire(Harness.WAIT_S, TimeUnit.SECONDS);
        check(first != null && second != null, "two leases");
        equal(null, b.acquire(300, TimeUnit.MILLISECONDS), "a third");
        a.returnLease(first);
        var third = b.acquire(Harness.WAIT_S, TimeUnit.SECONDS);
        check(third != null, "a returned lease");
        b.returnLease(second);
        b.returnLease(third);
    }

    private void latch() throws Exception {
        LeaderLatch a = new LeaderLatch(one, "/curator/latch", "a");
        LeaderLatch b = new LeaderLatch(two, "/curator/latch", "b");
        a.start();
        check(a.await(Harness.WAIT_S, TimeUnit.SECONDS), "a leads");
        b.start();
        eventually(() -> b.getParticipants().size() == 2, "two participants");
        check(!b.hasLeadership(), "one leader");
        equal("a", b.getLeader().getId(), "b knows the leader");
        a.close();
        check(b.await(Harness.WAIT_S, TimeUnit.SECONDS), "b follows");
        b.close();
    }

    private void counters() throws Exception {
        DistributedAtomicLong a = new DistributedAtomicLong(one, "/curator/long", new RetryForever(20));
        DistributedAtomicLong b = new DistributedAtomicLong(two, "/curator/long", new RetryForever(20));
        ExecutorService pool = Executors.newFixedThreadPool(2);
        List<Future<?>> all = new java.util.ArrayList<>();
        for (DistributedAtomicLong counter : List.of(a, b)) {
            all.add(pool.submit(() -> {
                for (int i = 0; i < 25; i++) {
                    AtomicValue<Long> value = counter.increment();
                    check(value.succeeded(), "increment");
                }
                return null;
            }));
        }
        for (Future<?> f : all) {
            f.get(2 * Harness.WAIT_S, TimeUnit.SECONDS);
        }
        pool.shutdown();
        equal(50L, a.get().postValue(), "sum");
        try (SharedCount x = new SharedCount(one, "/curator/count", 7); SharedCount y = new SharedCount(two, "/curator/count", 7)) {
            x.start();
            y.start();
            equal(7, y.getCount(), "seed");
            x.setCount(8);
            eventually(() -> y.getCount() == 8, "the other side sees it");
            check(y.trySetCount(y.getVersionedValue(), 9), "versioned set");
        }
    }

    private void ttlNode() throws Exception {
        try (PersistentTtlNode node = new PersistentTtlNode(one, "/curator/ttl", 1_000, bytes("data"))) {
            node.start();
            check(node.waitForInitialCreate(Harness.WAIT_S, TimeUnit.SECONDS), "created");
            eventually(() -> two.checkExists().forPath("/curator/ttl/touch") != null, "touch node");
            Thread.sleep(2_000);
            check(two.checkExists().forPath("/curator/ttl") != null, "kept alive by touching");
        }
        two.create().withTtl(300).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/curator/short", bytes("x"));
        eventually(() -> two.checkExists().forPath("/curator/short") == null, "TTL passed");
    }

    private void cache() throws Exception {
        one.create().creatingParentsIfNeeded().forPath("/curator/cache/a", bytes("1"));
        ConcurrentHashMap<String, String> view = new ConcurrentHashMap<>();
        CountDownLatch initialized = new CountDownLatch(1);
        try (CuratorCache cache = CuratorCache.build(two, "/curator/cache")) {
            cache.listenable().addListener(CuratorCacheListener.builder()
                    .forCreates(n -> view.put(n.getPath(), new String(n.getData())))
                    .forChanges((old, n) -> view.put(n.getPath(), new String(n.getData())))
                    .forDeletes(n -> view.remove(n.getPath()))
                    .forInitialized(initialized::countDown)
                    .build());
            cache.start();
            check(initialized.await(Harness.WAIT_S, TimeUnit.SECONDS), "initialized");
            equal("1", view.get("/curator/cache/a"), "what was there");
            one.create().forPath("/curator/cache/b", bytes("2"));
            one.create().forPath("/curator/cache/b/c", bytes("3"));
            one.setData().forPath("/curator/cache/a", bytes("4"));
            eventually(() -> "4".equals(view.get("/curator/cache/a")) && "3".equals(view.get("/curator/cache/b/c")), "changes");
            one.delete().deletingChildrenIfNeeded().forPath("/curator/cache/b");
            eventually(() -> !view.containsKey("/curator/cache/b") && !view.containsKey("/curator/cache/b/c"), "deletions");
        }
    }

    private void transaction() throws Exception {
        one.create().creatingParentsIfNeeded().forPath("/curator/tx", bytes("0"));
        List<CuratorTransactionResult> results = one.transaction().forOperations(
                one.transactionOp().check().withVersion(0).forPath("/curator/tx"),
                one.transactionOp().create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/curator/tx/e-", bytes("e")),
                one.transactionOp().setData().withVersion(0).forPath("/curator/tx", bytes("1")));
        equal(3, results.size(), "results");
        equal("/curator/tx/e-0000000000", results.get(1).getResultPath(), "path");
        equal(1, results.get(2).getResultStat().getVersion(), "version");
        try {
            one.transaction().forOperations(
                    one.transactionOp().setData().forPath("/curator/tx", bytes("2")),
                    one.transactionOp().check().withVersion(9).forPath("/curator/tx"));
            check(false, "a failing transaction succeeded");
        } catch (KeeperException.BadVersionException e) {
            equal("1", new String(two.getData().forPath("/curator/tx")), "nothing applied");
        }
    }

    private void barrier() throws Exception {
        DistributedDoubleBarrier a = new DistributedDoubleBarrier(one, "/curator/barrier", 2);
        DistributedDoubleBarrier b = new DistributedDoubleBarrier(two, "/curator/barrier", 2);
        ExecutorService pool = Executors.newSingleThreadExecutor();
        Future<Boolean> other = pool.submit(() ->
                b.enter(Harness.WAIT_S, TimeUnit.SECONDS) && b.leave(Harness.WAIT_S, TimeUnit.SECONDS));
        check(a.enter(Harness.WAIT_S, TimeUnit.SECONDS), "entered");
        check(a.leave(Harness.WAIT_S, TimeUnit.SECONDS), "left");
        check(other.get(Harness.WAIT_S, TimeUnit.SECONDS), "the other too");
        pool.shutdown();
    }

    private void ourCounters() throws Exception {
        DistributedAtomicLong theirs = new DistributedAtomicLong(one, "/curator/shared-long", new RetryForever(20));
        check(theirs.add(7L).succeeded(), "add");
        equal("5", h.ours("counter-add /curator/shared-long long -2"), "ours");
        equal(5L, theirs.get().postValue(), "theirs");
        try (SharedCount count = new SharedCount(one, "/curator/shared-count", 7)) {
            count.start();
            equal("-1", h.ours("counter-add /curator/shared-count int -8"), "ours");
            eventually(() -> count.getCount() == -1, "theirs sees it");
            check(count.trySetCount(count.getVersionedValue(), 9), "versioned set");
        }
        equal("10", h.ours("counter-add /curator/shared-count int 1"), "ours");
    }

    private void ourBarriers() throws Exception {
        DistributedBarrier simple = new DistributedBarrier(one, "/curator/shared-barrier");
        simple.setBarrier();
        equal("false", h.ours("barrier-close /curator/shared-barrier"), "closed by them");
        h.ours("barrier-wait /curator/shared-barrier");
        check(!simple.waitOnBarrier(200, TimeUnit.MILLISECONDS), "closed");
        equal("true", h.ours("is-waiting"), "we wait");
        simple.removeBarrier();
        h.ours("waited");
        h.ours("barrier-close /curator/shared-barrier");
        check(!simple.waitOnBarrier(100, TimeUnit.MILLISECONDS), "closed by us");
        h.ours("barrier-open /curator/shared-barrier");
        check(simple.waitOnBarrier(Harness.WAIT_S, TimeUnit.SECONDS), "opened by us");
        for (int round = 0; round < 2; round++) {
            DistributedDoubleBarrier theirs = new DistributedDoubleBarrier(one, "/curator/shared-double", 2);
            h.ours("double-enter /curator/shared-double 2");
            Thread.sleep(200);
            equal("true", h.ours("is-entering"), "alone");
            check(theirs.enter(Harness.WAIT_S, TimeUnit.SECONDS), "entered");
            h.ours("double-leave");
            Thread.sleep(200);
            equal("true", h.ours("is-waiting"), "not all have left");
            check(theirs.leave(Harness.WAIT_S, TimeUnit.SECONDS), "left");
            h.ours("waited");
        }
    }

    private void ourGroup() throws Exception {
        try (GroupMember theirs = new GroupMember(one, "/curator/shared-group", "curator", bytes("curator"))) {
            theirs.start();
            eventually(() -> "curator".equals(h.ours("member-list /curator/shared-group")), "we see them");
            String id = h.ours("member-join /curator/shared-group farrier");
            eventually(() -> theirs.getCurrentMembers().containsKey(id), "they see us");
            equal("farrier", new String(theirs.getCurrentMembers().get(id)), "payload");
            equal("curator,farrier", h.ours("member-list /curator/shared-group"), "both");
            h.ours("member-leave");
            eventually(() -> !theirs.getCurrentMembers().containsKey(id), "we left");
        }
        equal("", h.ours("member-list /curator/shared-group"), "all left");
    }

    private interface Attempt {
        boolean take() throws Exception;
    }

    private interface End {
        void letGo() throws Exception;
    }

    /** While one side holds it the other one does not get it, and gets it afterwards. */
    private void excludeEachOther(String what, String path, Attempt attempt, End end) throws Exception {
        check(attempt.take(), what + ": free");
        equal("TAKEN", h.asked("HOLD? " + what + " curator " + path), what + ": held by Curator");
        end.letGo();
        equal("HELD", h.asked("HOLD? " + what + " curator " + path), what + ": free again");
        check(!attempt.take(), what + ": held by Farrier");
        equal("DONE", h.asked("LET GO? " + path), what);
        check(attempt.take(), what + ": free once more");
        end.letGo();
    }

    private void besideOurs() throws Exception {
        InterProcessMutex mutex = new InterProcessMutex(one, "/both/lock");
        excludeEachOther("lock", "/both/lock", () -> mutex.acquire(300, TimeUnit.MILLISECONDS), mutex::release);
        InterProcessReadWriteLock rw = new InterProcessReadWriteLock(one, "/both/rw");
        Attempt read = () -> rw.readLock().acquire(300, TimeUnit.MILLISECONDS);
        Attempt write = () -> rw.writeLock().acquire(300, TimeUnit.MILLISECONDS);
        excludeEachOther("write", "/both/rw", write, rw.writeLock()::release);
        excludeEachOther("write", "/both/rw", read, rw.readLock()::release);
        excludeEachOther("read", "/both/rw", write, rw.writeLock()::release);
        equal("HELD", h.asked("HOLD? read curator /both/rw"), "a reader");
        check(read.take(), "readers share");
        rw.readLock().release();
        equal("DONE", h.asked("LET GO? /both/rw"), "a reader");

        InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(one, "/both/semaphore", 2);
        var permit = semaphore.acquire(Harness.WAIT_S, TimeUnit.SECONDS);
        check(permit != null, "one of two permits");
        var second = new java.util.concurrent.atomic.AtomicReference<org.apache.curator.framework.recipes.locks.Lease>();
        excludeEachOther("permit", "/both/semaphore", () -> {
            second.set(semaphore.acquire(300, TimeUnit.MILLISECONDS));
            return second.get() != null;
        }, () -> semaphore.returnLease(second.get()));
        semaphore.returnLease(permit);

        var latch = new java.util.concurrent.atomic.AtomicReference<LeaderLatch>();
        excludeEachOther("lead", "/both/lead", () -> {
            latch.set(new LeaderLatch(one, "/both/lead", "curator"));
            latch.get().start();
            boolean leads = latch.get().await(300, TimeUnit.MILLISECONDS);
            if (!leads) {
                equal("farrier", latch.get().getLeader().getId(), "Curator knows our leader");
                latch.get().close();
            }
            return leads;
        }, () -> latch.get().close());
    }

    private void acrossRestart() throws Exception {
        InterProcessMutex held = new InterProcessMutex(one, "/curator/restart-lock");
        InterProcessMutex waiting = new InterProcessMutex(two, "/curator/restart-lock");
        held.acquire();
        try (PersistentNode node = new PersistentNode(one, CreateMode.EPHEMERAL, false, "/curator/member", bytes("m"))) {
            node.start();
            check(node.waitForInitialCreate(Harness.WAIT_S, TimeUnit.SECONDS), "created");
            ExecutorService pool = Executors.newSingleThreadExecutor();
            Future<Boolean> turn = pool.submit(() -> waiting.acquire(2 * Harness.WAIT_S, TimeUnit.SECONDS));
            eventually(() -> one.getChildren().forPath("/curator/restart-lock").size() == 2, "a waiter");
            h.restart("kill");
            eventually(() -> one.checkExists().forPath("/curator/member") != null, "the member is there");
            check(held.isAcquiredInThisProcess(), "still held");
            equal(2, one.getChildren().forPath("/curator/restart-lock").size(), "both in line");
            held.release();
            check(turn.get(2 * Harness.WAIT_S, TimeUnit.SECONDS), "the waiter's turn");
            pool.shutdown();
        }
        eventually(() -> two.checkExists().forPath("/curator/member") == null, "the member left");
    }
}
