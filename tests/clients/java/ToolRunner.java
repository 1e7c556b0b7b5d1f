import java.io.*;
import java.lang.reflect.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;

import org.apache.kafka.common.utils.Exit;

/**
 * Runs command-line tools of Kafka one after the other in one machine: starting one for each would cost more than they do. A line of the
 * file that is given is a step: its name, the class, what the tool reads, and its arguments, separated by tabs (in the second to last, \n
 * stands for a new line). What a step wrote is printed between "=== NAME STATUS" and "=== end".
 */
public class ToolRunner {
    /** Thrown where a tool would end the process; some catch it and go on, but the first status counts. */
    static class Ended extends Error {
        Ended() {
            super("exit", null, false, false);
        }
    }

    static volatile Integer status;
    static final List<Runnable> hooks = new CopyOnWriteArrayList<>();

    /** The stream of all steps: Scala keeps what it found as System.out at first. */
    static class Switch extends OutputStream {
        volatile OutputStream to;

        @Override
        public void write(int b) throws IOException { to.write(b); }

        @Override
        public void write(byte[] b, int from, int n) throws IOException { to.write(b, from, n); }
    }

    static int run(String name, String[] arguments) throws Exception {
        Method main = Class.forName(name).getMethod("main", String[].class);
        try {
            main.invoke(null, (Object) arguments);
            if (name.contains("Verifiable")) // they send their last requests and say what they did when the process ends
                for (Runnable hook : hooks) hook.run();
            return status == null ? 0 : status;
        } catch (InvocationTargetException e) {
            if (status != null) return status;
            e.getCause().printStackTrace();
            return 99;
        }
    }

    public static void main(String[] given) throws Exception {
        Exit.Procedure end = (code, message) -> {
            if (status == null) status = code;
            throw new Ended();
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        PrintStream out = System.out;
        Switch written = new Switch();
        PrintStream both = new PrintStream(written, true, "UTF-8");
        System.setOut(both);
        System.setErr(both);
        for (String line : Files.readAllLines(Paths.get(given[0]))) {
            String[] words = line.split("\t", -1);
            ByteArrayOutputStream text = new ByteArrayOutputStream();
            written.to = text;
            status = null;
            hooks.clear();
            System.setIn(new ByteArrayInputStream(words[2].replace("\\n", "\n").getBytes(StandardCharsets.UTF_8)));
            FutureTask<Integer> step = new FutureTask<>(() -> run(words[1], Arrays.copyOfRange(words, 3, words.length)));
            Thread thread = new Thread(step);
            thread.setDaemon(true);
            long began = System.currentTimeMillis();
            thread.start();
            String how;
            try {
                how = String.valueOf(step.get(40, TimeUnit.SECONDS));
            } catch (TimeoutException e) {
                how = "late";
            }
            both.flush();
            out.println("=== " + words[0] + " " + how + " " + (System.currentTimeMillis() - began) + " ms");
            out.println(text.toString("UTF-8"));
            out.println("=== end");
            out.flush();
        }
        Runtime.getRuntime().halt(0);
    }
}
