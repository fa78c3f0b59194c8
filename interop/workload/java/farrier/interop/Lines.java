package farrier.interop;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/** The lines by which a workload talks to whoever started it. */
final class Lines {
    private int passed;
    private int failed;

    /** Returns when standard input says END or is closed. */
    static void waitForEnd() {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try {
            String line = input.readLine();
            while (line != null && !line.equals("END")) {
                line = input.readLine();
            }
        } catch (IOException e) {
            // Nobody is there any more to end it: the same as END.
        }
    }

    /** One verdict: good if nothing is wrong. */
    void check(String name, String wrong, String seen) {
        if (wrong == null) {
            passed++;
            System.out.println("ok " + name + ": " + seen);
        } else {
            failed++;
            System.out.println("FAIL " + name + ": " + wrong.replace('\n', ' '));
        }
    }

    /** The last line; whether all is well. */
    boolean end() {
        System.out.println("END " + passed + " " + failed);
        System.out.flush();
        return failed == 0;
    }
}
