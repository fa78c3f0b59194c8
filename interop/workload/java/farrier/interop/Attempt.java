package farrier.interop;

import java.util.concurrent.atomic.AtomicReference;

/** What one thread works at, and the first failure that it met. */
final class Attempt {
    /** Work that may fail. */
    interface Work {
        void run() throws Exception;
    }

    private final AtomicReference<Throwable> failure = new AtomicReference<>();

    /** Works on the calling thread; a failure is kept, and told at once. */
    void at(Work work) {
        try {
            work.run();
        } catch (Exception | AssertionError e) {
            failure.compareAndSet(null, e);
            System.out.println("broken: " + e);
        }
    }

    /** A thread that works. */
    Thread thread(String name, Work work) {
        return new Thread(() -> at(work), name);
    }

    /** What went wrong; null if nothing did. */
    String failure() {
        Throwable seen = failure.get();
        return seen == null ? null : seen.toString();
    }
}
