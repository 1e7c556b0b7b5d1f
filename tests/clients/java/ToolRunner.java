import java.io.*;
import java.lang.reflect.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.regex.Pattern;

import org.apache.kafka.common.utils.Exit;

/**
 * Runs command-line tools of Kafka one after the other in one machine: starting one for each would cost more than they do. A line of the
 * file that is given is a step: its name, the class, how it runs, what the tool reads, and its arguments, separated by tabs (in what it
 * reads, \n stands for a new line). How: nothing; "&" for a tool that runs on while other steps do; "~PATTERN" for one that is run again,
 * for some seconds, until what it writes matches. What a step wrote is printed between "=== NAME STATUS" and "=== end".
 *
 * Needs --add-opens java.base/java.lang=ALL-UNNAMED: what a tool does when its process ends is done when its step does.
 */
public class ToolRunner {
    /** Thrown where a tool would end the process; some catch it and go on, but the first status counts. */
    static class Ended extends Error {
        Ended() {
            super("exit", null, false, false);
        }
    }

    /** The status of a step, for all its threads. */
    static final InheritableThreadLocal<Integer[]> status = new InheritableThreadLocal<>();

    /** The stream of all steps: Scala keeps what it found as System.out at first. */
    static class Switch extends OutputStream {
        volatile OutputStream to;

        @Override
        public void write(int b) throws IOException { to.write(b); }

        @Override
        public void write(byte[] b, int from, int n) throws IOException { to.write(b, from, n); }
    }

    /** The hooks for the end of the process; Kafka's own way to add some ends here too. */
    @SuppressWarnings("unchecked")
    static Map<Thread, Thread> hooks() throws Exception {
        Field f = Class.forName("java.lang.ApplicationShutdownHooks").getDeclaredField("hooks");
        f.setAccessible(true);
        return (Map<Thread, Thread>) f.get(null);
    }

    static int run(String name, String[] arguments) throws Exception {
        Integer[] mine = new Integer[1];
        status.set(mine);
        Set<Thread> before = new HashSet<>(hooks().keySet());
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException e) {
            if (mine[0] == null) {
                e.getCause().printStackTrace();
                mine[0] = 99;
            }
        }
        for (Thread hook : new ArrayList<>(hooks().keySet())) {
            if (before.contains(hook)) continue;
            hooks().remove(hook);
            if (name.contains("Verifiable")) hook.run(); // it sends its last requests, and says what it did
        }
        return mine[0] == null ? 0 : mine[0];
    }

    static final PrintStream out = System.out;
    static final Switch written = new Switch();

    /** Returns the status and how long it took; what was written is in `text`. */
    static String step(String[] words, boolean behind, ByteArrayOutputStream text) throws Exception {
        System.setIn(new ByteArrayInputStream(words[3].replace("\\n", "\n").getBytes(StandardCharsets.UTF_8)));
        written.to = text;
        FutureTask<Integer> step = new FutureTask<>(() -> run(words[1], Arrays.copyOfRange(words, 4, words.length)));
        Thread thread = new Thread(step);
        thread.setDaemon(true);
        long began = System.currentTimeMillis();
        thread.start();
        String how;
        try {
            how = behind ? "0" : String.valueOf(step.get(40, TimeUnit.SECONDS));
        } catch (TimeoutException e) {
            how = "late";
        }
        System.out.flush();
        return how + " " + (System.currentTimeMillis() - began) + " ms";
    }

    public static void main(String[] given) throws Exception {
        Exit.Procedure end = (code, message) -> {
            Integer[] mine = status.get();
            if (mine != null && mine[0] == null) mine[0] = code;
            throw new Ended();
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        written.to = out;
        PrintStream both = new PrintStream(written, true, "UTF-8");
        System.setOut(both);
        System.setErr(both);
        for (String line : Files.readAllLines(Paths.get(given[0]))) {
            String[] words = line.split("\t", -1);
            ByteArrayOutputStream text = new ByteArrayOutputStream();
            Pattern wanted = words[2].startsWith("~") ? Pattern.compile(words[2].substring(1)) : null;
            long until = System.currentTimeMillis() + 20000;
            String how = step(words, words[2].equals("&"), text);
            while (wanted != null && !wanted.matcher(text.toString("UTF-8")).find() && System.currentTimeMillis() < until) {
                Thread.sleep(100);
                text.reset();
                how = step(words, false, text);
            }
            out.println("=== " + words[0] + " " + how);
            out.println(text.toString("UTF-8"));
            out.println("=== end");
            out.flush();
        }
        Runtime.getRuntime().halt(0);
    }
}
