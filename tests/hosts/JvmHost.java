// SPDX-License-Identifier: Apache-2.0

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import sun.misc.Signal;

/** Hosts in Java: JvmHost storm, or JvmHost killed. */
public class JvmHost {
    static native long spawn(String[] argv);

    static native int write(long program, byte[] data);

    static native int closeStdin(long program);

    static native int read(long program, byte[] data);

    static native int end(long program);

    static final ConcurrentLinkedQueue<Throwable> failures = new ConcurrentLinkedQueue<>();
    static volatile boolean over;
    static volatile int[] nothing;
    static volatile Object sink;

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    interface Work {
        void run() throws Exception;
    }

    static Thread start(Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (Throwable failure) {
                failures.add(failure);
            }
        });
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    static void runProgram(int number) {
        byte[] text = ("program " + number + " ").repeat(100).getBytes();
        long program = spawn(new String[] {"sh", "-c", "cat; exit " + number % 256});
        check(program > 0, "spawn: " + program);
        check(write(program, text) == text.length, "write");
        check(closeStdin(program) == 0, "closeStdin");
        StringBuilder output = new StringBuilder();
        byte[] buffer = new byte[4096];
        for (int n; (n = read(program, buffer)) != 0; ) {
            check(n > 0, "read: " + n);
            output.append(new String(buffer, 0, n));
        }
        check(output.toString().equals(new String(text)), "output");
        check(end(program) == number % 256, "status");
    }

    /** In compiled code a null pointer is a SIGSEGV, as is the end of a stack. */
    static void fault(int rounds) {
        int caught = 0;
        for (int i = 0; i < rounds; i++) {
            try {
                sink = nothing[i];
            } catch (NullPointerException e) {
                caught++;
            }
        }
        check(caught == rounds, "NullPointerException");
    }

    static int recurse(int depth) {
        return recurse(depth + 1) + 1;
    }

    static void overflow() {
        for (int i = 0; i < 3; i++) {
            try {
                recurse(0);
                check(false, "no StackOverflowError");
            } catch (StackOverflowError e) {
                sink = e;
            }
        }
    }

    static AtomicInteger countSignals() {
        AtomicInteger seen = new AtomicInteger();
        Signal.handle(new Signal("USR2"), signal -> seen.incrementAndGet());
        return seen;
    }

    static void storm() throws Exception {
        AtomicInteger seen = countSignals();
        List<Thread> noise = new ArrayList<>();
        String self = Long.toString(ProcessHandle.current().pid());
        noise.add(start(() -> { // garbage, and safepoints
            while (!over) {
                for (int i = 0; i < 1000; i++) sink = new byte[10_000];
                System.gc();
            }
        }));
        noise.add(start(() -> {
            while (!over) Signal.raise(new Signal("USR2"));
        }));
        noise.add(start(() -> { // Java's own children
            while (!over) check(new ProcessBuilder("sh", "-c", "kill -USR2 " + self + "; exit 3").start().waitFor() == 3, "a child");
        }));
        noise.add(start(() -> {
            while (!over) fault(20_000);
        }));
        List<Thread> programs = new ArrayList<>();
        for (int t = 0; t < 6; t++) {
            int first = t * 100;
            programs.add(start(() -> {
                for (int i = 0; i < 25; i++) runProgram(first + i);
                fault(1000);
                overflow();
            }));
        }
        for (Thread thread : programs) thread.join();
        over = true;
        for (Thread thread : noise) thread.join();
        for (Throwable failure : failures) throw new AssertionError(failure);

        int before = seen.get();
        check(before > 0, "no handler has run");
        new ProcessBuilder("kill", "-USR2", self).start().waitFor();
        while (seen.get() == before) Thread.sleep(5);
        overflow();
        System.out.println("survived");
        System.out.flush();
        // A dump of all threads by SIGQUIT, which tests/hosts/jvm.sh looks for.
        new ProcessBuilder("kill", "-QUIT", self).start().waitFor();
        System.in.read();
    }

    static void killed() throws Exception {
        countSignals();
        for (int i = 0; i < 5; i++) {
            long tree = spawn(new String[] {"sh", "-c", "setsid sleep 1000 & sleep 1000 & echo ready; wait"});
            check(tree > 0 && read(tree, new byte[4096]) > 0, "a tree");
        }
        for (int t = 0; t < 2; t++)
            start(() -> {
                while (true) end(spawn(new String[] {"sh", "-c", "sleep 1000 & setsid sleep 1000 & exit 0"}));
            });
        System.out.println("ready");
        System.out.flush();
        while (true) Signal.raise(new Signal("USR2"));
    }

    public static void main(String[] arguments) throws Exception {
        System.load(System.getenv("GLUE"));
        if (arguments[0].equals("storm")) storm();
        else killed();
    }
}
