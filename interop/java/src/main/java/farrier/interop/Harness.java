package farrier.interop;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooKeeper;

/**
 * The line protocol between a scenario and the program that runs it, and the waits that every scenario needs.
 * Standard output carries only {@code ok}, {@code FAIL}, {@code RESTART?}, {@code OURS?} and {@code END} lines; logs go elsewhere.
 */
final class Harness {
    /** Longest wait for anything that must happen, in seconds: generous, because no test asserts a duration. */
    static final int WAIT_S = 60;

    private final BufferedReader control =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    private int passed;
    private int failed;

    /** A step of a scenario. */
    interface Step {
        void run() throws Exception;
    }

    /** Runs one named step; a failure is reported and the next step still runs. */
    void step(String name, Step step) {
        try {
            step.run();
            passed++;
            System.out.println("ok " + name);
        } catch (Throwable t) {
            failed++;
            StringBuilder why = new StringBuilder(t.toString());
            for (StackTraceElement e : t.getStackTrace()) {
                if (e.getClassName().startsWith("farrier.")) {
                    why.append(" at ").append(e.getFileName()).append(':').append(e.getLineNumber());
                    break;
                }
            }
            System.out.println("FAIL " + name + ": " + why.toString().replace('\n', ' '));
        }
        System.out.flush();
    }

    /** Has the server stopped in the given way ({@code kill} or {@code term}) and started again on the same data. */
    void restart(String how) throws IOException {
        System.out.println("RESTART? " + how);
        System.out.flush();
        String answer = control.readLine();
        if (!"DONE".equals(answer)) {
            throw new IOException("restart was answered by " + answer);
        }
    }

    /** Has Farrier's recipe do something; what it tells. */
    String ours(String what) throws IOException {
        System.out.println("OURS? " + what);
        System.out.flush();
        String answer = control.readLine();
        if (answer == null || !(answer + " ").startsWith("DONE ")) {
            throw new IOException(what + " was answered by " + answer);
        }
        return answer.length() > 5 ? answer.substring(5) : "";
    }

    /** What the runner, which holds Farrier's recipes for us, answers. */
    String asked(String question) throws IOException {
        System.out.println(question);
        System.out.flush();
        return control.readLine();
    }

    /** Ends the process with the verdict; open sessions stay open. */
    void end() {
        System.out.println("END " + passed + " " + failed);
        System.out.flush();
        Runtime.getRuntime().halt(failed == 0 ? 0 : 1);
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void equal(Object want, Object got, String what) {
        boolean same = want instanceof byte[] && got instanceof byte[]
                ? Arrays.equals((byte[]) want, (byte[]) got)
                : Objects.equals(want, got);
        if (!same) {
            throw new AssertionError(what + ": want " + show(want) + ", got " + show(got));
        }
    }

    private static String show(Object value) {
        return value instanceof byte[] ? Arrays.toString((byte[]) value) : String.valueOf(value);
    }

    /** Demands that the call fails with this code. */
    static void refused(KeeperException.Code code, Callable<?> call, String what) throws Exception {
        Object got;
        try {
            got = call.call();
        } catch (KeeperException e) {
            equal(code, e.code(), what);
            return;
        }
        throw new AssertionError(what + ": want " + code + ", got success " + got);
    }

    /** Polls until the condition holds. */
    static void eventually(Callable<Boolean> condition, String what) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_S);
        while (!condition.call()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("never happened: " + what);
            }
            Thread.sleep(50);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Opens a session and waits until it is connected. */
    static ZooKeeper open(String connect, int timeoutMs) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(connect, timeoutMs, e -> {
            if (e.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        });
        check(connected.await(WAIT_S, TimeUnit.SECONDS), "no connection to " + connect);
        return zk;
    }

    /** A watcher that keeps what it saw, session events apart. */
    static final class Seen implements Watcher {
        private final BlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            if (event.getType() != Event.EventType.None) {
                events.add(event);
            }
        }

        /** The next event as {@code Type path}. */
        String next() throws InterruptedException {
            WatchedEvent e = events.poll(WAIT_S, TimeUnit.SECONDS);
            return e == null ? "no event" : e.getType() + " " + e.getPath();
        }

        boolean none() {
            return events.isEmpty();
        }
    }
}
