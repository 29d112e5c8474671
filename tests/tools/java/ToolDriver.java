import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;

import javassist.CannotCompileException;
import javassist.ClassPool;
import javassist.CtClass;
import javassist.expr.ExprEditor;
import javassist.expr.MethodCall;

import org.apache.kafka.common.utils.Exit;

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Runs the main classes of Kafka's command-line tools one after the other in this JVM, as if each had its own.
 *
 * One JSON object per line comes in and one goes out, in order:
 *   {"do": "run", "main": class, "args": [...], "stdin": text, "timeout_ms": n}  a tool, from start to end
 *   {"do": "start", "name": n, "until": text, ...as above}  a tool that stays; answered once it has printed `until`
 *   {"do": "stop", "name": n, "timeout_ms": n}  what SIGTERM does to it: its shutdown hooks run, the exit code is 143
 * Answers are {"out": text, "err": text, "code": n, "timed_out": bool, "ms": n}.
 *
 * What a tool and every thread it starts print goes to its own buffers, which are closed with its end: threads that are
 * left over disturb no other tool. Its exit is caught where Kafka's tools ask for it, in Exit.
 */
public final class ToolDriver {
    private static final InheritableThreadLocal<Tool> CURRENT = new InheritableThreadLocal<>();
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int TERMINATED = 143;

    public static void main(String[] arguments) {
        PrintStream errors = System.err;
        try {
            serve();
        } catch (Throwable thrown) {
            thrown.printStackTrace(errors);
        }
        Runtime.getRuntime().halt(0);
    }

    private static void serve() throws Exception {
        PrintStream answers = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        BufferedReader requests = new BufferedReader(
            new InputStreamReader(new FileInputStream(FileDescriptor.in), StandardCharsets.UTF_8));
        System.setOut(new PrintStream(new Split(false), true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(new Split(true), true, StandardCharsets.UTF_8));
        System.setIn(new SplitInput());
        Exit.setExitProcedure((code, message) -> leave(code));
        Exit.setHaltProcedure((code, message) -> leave(code));
        Exit.setShutdownHookAdder((name, hook) -> {
            Tool tool = CURRENT.get();
            if (tool != null) tool.addHook(hook);
        });
        leaveThroughExit("net.sourceforge.argparse4j.internal.ArgumentParserImpl", "TerminalWidth");
        leaveThroughExit("org.apache.kafka.tools.VerifiableConsumer", "TerseException");
        leaveThroughExit("org.apache.kafka.tools.VerifiableProducer", "TerseException");
        Map<String, Tool> staying = new HashMap<>();
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            answers.println(JSON.writeValueAsString(answer(JSON.readTree(line), staying)));
        }
    }

    private static ObjectNode answer(JsonNode request, Map<String, Tool> staying) throws Exception {
        long patienceMs = request.get("timeout_ms").asLong();
        switch (request.get("do").asText()) {
            case "run": {
                Tool tool = new Tool(request);
                tool.start();
                boolean ended = tool.ended.await(patienceMs, TimeUnit.MILLISECONDS);
                if (!ended) tool.terminate(2000);
                return tool.report(!ended);
            }
            case "start": {
                Tool tool = new Tool(request);
                staying.put(request.get("name").asText(), tool);
                tool.start();
                return tool.report(!tool.printed(request.get("until").asText(), patienceMs));
            }
            case "stop": {
                Tool tool = staying.remove(request.get("name").asText());
                boolean ended = tool.terminate(patienceMs);
                return tool.report(!ended);
            }
            default:
                throw new IllegalArgumentException(request.toString());
        }
    }

    /** Some classes end the JVM themselves or hook into its end: they are loaded with the calls of Exit in their place. */
    private static void leaveThroughExit(String name, String neighbor) throws Exception {
        CtClass impatient = ClassPool.getDefault().get(name);
        impatient.instrument(new ExprEditor() {
            @Override
            public void edit(MethodCall call) throws CannotCompileException {
                String called = call.getClassName() + "." + call.getMethodName();
                if (called.equals("java.lang.System.exit")) {
                    call.replace("{ org.apache.kafka.common.utils.Exit.exit($1); }");
                } else if (called.equals("java.lang.Runtime.addShutdownHook")) {
                    call.replace("{ org.apache.kafka.common.utils.Exit.addShutdownHook(\"hook\", (Runnable) $1); }");
                }
            }
        });
        impatient.toClass(Class.forName(impatient.getPackageName() + "." + neighbor));
    }

    private static void leave(int code) {
        Tool tool = CURRENT.get();
        if (tool != null) tool.exit(code);
        throw new Left();
    }

    /** Ends the thread that asked for the exit: nothing behind it may run, as nothing would in a JVM of its own. */
    private static final class Left extends Error {
        Left() {
            super("exit", null, false, false);
        }
    }

    /** One run of one tool. */
    private static final class Tool {
        final CountDownLatch ended = new CountDownLatch(1);
        final InputStream in;
        private final String main;
        private final String[] args;
        private final ByteArrayOutputStream out = new ByteArrayOutputStream();
        private final ByteArrayOutputStream err = new ByteArrayOutputStream();
        private final List<Runnable> hooks = new ArrayList<>();
        private final long startedNs = System.nanoTime();
        private Thread thread;
        private boolean leaving;
        private boolean closed;
        private int code = -1;

        Tool(JsonNode request) {
            main = request.get("main").asText();
            List<String> words = new ArrayList<>();
            request.get("args").forEach(word -> words.add(word.asText()));
            args = words.toArray(new String[0]);
            in = new ByteArrayInputStream(request.get("stdin").asText().getBytes(StandardCharsets.UTF_8));
        }

        void start() {
            CURRENT.set(this);
            thread = new Thread(this::body, "main");
            thread.setDaemon(true);
            CURRENT.remove();
            thread.start();
        }

        private void body() {
            try {
                MethodHandle entry = MethodHandles.publicLookup().findStatic(
                    Class.forName(main), "main", MethodType.methodType(void.class, String[].class));
                entry.invokeExact(args);
                exit(0);
            } catch (Left left) {
                // has exited
            } catch (Throwable thrown) {
                synchronized (this) {
                    if (leaving) return;
                }
                System.err.print("Exception in thread \"main\" ");
                thrown.printStackTrace();
                exit(1);
            }
        }

        /** The first exit counts: its code stands, the hooks run, and nothing is printed after that. */
        void exit(int with) {
            synchronized (this) {
                if (leaving) return;
                leaving = true;
                code = with;
            }
            runHooks();
            close();
        }

        boolean terminate(long patienceMs) throws InterruptedException {
            synchronized (this) {
                if (leaving) return ended.await(patienceMs, TimeUnit.MILLISECONDS);
                leaving = true;
                code = TERMINATED;
            }
            CURRENT.set(this);
            Thread ending = new Thread(this::runHooks, "shutdown");
            ending.setDaemon(true);
            CURRENT.remove();
            ending.start();
            ending.join(patienceMs);
            boolean hooksEnded = !ending.isAlive();
            close();
            thread.interrupt();
            return hooksEnded;
        }

        private void runHooks() {
            List<Runnable> all;
            synchronized (this) {
                all = new ArrayList<>(hooks);
            }
            for (Runnable hook : all) {
                try {
                    hook.run();
                } catch (Left left) {
                    // a hook that exits changes nothing
                } catch (Throwable thrown) {
                    thrown.printStackTrace();
                }
            }
        }

        synchronized void addHook(Runnable hook) {
            hooks.add(hook);
        }

        synchronized void write(boolean error, byte[] bytes, int from, int count) {
            if (closed) return;
            (error ? err : out).write(bytes, from, count);
            notifyAll();
        }

        synchronized boolean printed(String text, long patienceMs) throws InterruptedException {
            long deadlineNs = System.nanoTime() + patienceMs * 1_000_000;
            while (!out.toString(StandardCharsets.UTF_8).contains(text)) {
                long leftMs = (deadlineNs - System.nanoTime()) / 1_000_000;
                if (leftMs <= 0 || closed) return false;
                wait(leftMs);
            }
            return true;
        }

        private synchronized void close() {
            closed = true;
            notifyAll();
            ended.countDown();
        }

        synchronized ObjectNode report(boolean timedOut) {
            ObjectNode node = JSON.createObjectNode();
            node.put("out", out.toString(StandardCharsets.UTF_8));
            node.put("err", err.toString(StandardCharsets.UTF_8));
            node.put("code", code);
            node.put("timed_out", timedOut);
            node.put("ms", (System.nanoTime() - startedNs) / 1_000_000);
            return node;
        }
    }

    /** System.out and System.err: the bytes go to the tool that the printing thread belongs to. */
    private static final class Split extends OutputStream {
        private final boolean error;

        Split(boolean error) {
            this.error = error;
        }

        @Override
        public void write(int one) {
            write(new byte[] {(byte) one}, 0, 1);
        }

        @Override
        public void write(byte[] bytes, int from, int count) {
            Tool tool = CURRENT.get();
            if (tool != null) tool.write(error, bytes, from, count);
        }
    }

    /** System.in of the tool that the reading thread belongs to. */
    private static final class SplitInput extends InputStream {
        private InputStream mine() {
            Tool tool = CURRENT.get();
            return tool == null ? InputStream.nullInputStream() : tool.in;
        }

        @Override
        public int read() throws java.io.IOException {
            return mine().read();
        }

        @Override
        public int read(byte[] bytes, int from, int count) throws java.io.IOException {
            return mine().read(bytes, from, count);
        }

        @Override
        public int available() throws java.io.IOException {
            return mine().available();
        }
    }
}
