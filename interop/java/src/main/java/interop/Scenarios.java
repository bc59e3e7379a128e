package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;

/** Runs named scenarios and prints one line each: {@code PASS name}, {@code FAIL name reason} or {@code SKIP name reason}. */
final class Scenarios {
    interface Body {
        void run() throws Exception;
    }

    /** Thrown by a scenario that this client cannot express. */
    static final class Skip extends RuntimeException {
        Skip(String reason) {
            super(reason);
        }
    }

    private boolean failed;

    void run(String name, Body body) {
        long begin = System.nanoTime();
        String line;
        try {
            body.run();
            line = "PASS " + name;
        } catch (Skip skip) {
            line = "SKIP " + name + " " + skip.getMessage();
        } catch (Throwable error) {
            line = "FAIL " + name + " " + String.valueOf(error).replaceAll("\\s+", " ");
            error.printStackTrace();
        }
        synchronized (this) {
            failed |= line.startsWith("FAIL");
            System.out.println(line);
            System.err.printf("%s took %d ms%n", name, (System.nanoTime() - begin) / 1_000_000);
        }
    }

    /** Runs scenarios that share nothing side by side. */
    void runTogether(List<Runnable> scenarios) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(scenarios.size());
        List<Future<?>> running = new ArrayList<>();
        for (Runnable scenario : scenarios) {
            running.add(pool.submit(scenario));
        }
        for (Future<?> one : running) {
            one.get();
        }
        pool.shutdown();
    }

    boolean failed() {
        return failed;
    }

    static void check(boolean condition, String otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }

    /** Waits until the condition holds, at most {@code seconds}. */
    static void await(int seconds, String what, BooleanSupplier condition) throws InterruptedException {
        long deadline = System.nanoTime() + seconds * 1_000_000_000L;
        while (!condition.getAsBoolean()) {
            check(System.nanoTime() < deadline, what + " did not happen within " + seconds + " s");
            Thread.sleep(20);
        }
    }
}
