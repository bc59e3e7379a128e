package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;

/** A consumer in order whose process is killed: another one takes its queues over, in order, and nothing is lost. */
final class HandingOver {
    private static final int QUEUES = 2;
    private static final int COUNT = 40;

    private final Clients clients;

    HandingOver(Clients clients) {
        this.clients = clients;
    }

    /** The process that is killed. It says how many messages it consumed. */
    public static void main(String[] args) throws Exception {
        Clients clients = new Clients(args[0], args[1]);
        DefaultMQPushConsumer consumer = clients.consumer("handover");
        consumer.setInstanceName(clients.prefix + "_victim");
        consumer.subscribe(clients.topic("handover"), "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            messages.forEach(message -> System.out.println("consumed " + new String(message.getBody(), StandardCharsets.UTF_8)));
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        // Until it is killed, or its parent is gone.
        while (System.in.read() >= 0) {
            Thread.yield();
        }
        consumer.shutdown();
        System.exit(0);
    }

    void killed() throws Exception {
        String topic = clients.topic("handover");
        DefaultMQProducer producer = clients.producer("handover");
        send(producer, topic, 0);
        Process victim = victim();
        try {
            Set<String> consumed = ConcurrentHashMap.newKeySet();
            Thread reader = new Thread(() -> read(victim, consumed));
            reader.setDaemon(true);
            reader.start();
            await(60, "what was sent first at the process to be killed", () -> consumed.size() == COUNT);
            Map<Integer, Integer> last = new ConcurrentHashMap<>();
            Set<Integer> seen = ConcurrentHashMap.newKeySet();
            Set<String> disorder = ConcurrentHashMap.newKeySet();
            DefaultMQPushConsumer heir = heir(topic, seen, last, disorder);
            // It takes no queue while its holder lives, or gives one back in good order.
            victim.destroyForcibly().waitFor();
            long killed = System.nanoTime();
            send(producer, topic, COUNT);
            await(120, "what was sent after the kill", () -> containsAll(seen, COUNT, 2 * COUNT));
            System.out.printf("NOTE handover took %.1f s after the kill%n", (System.nanoTime() - killed) / 1e9);
            check(disorder.isEmpty(), "out of order: " + disorder);
            heir.shutdown();
        } finally {
            victim.destroyForcibly();
        }
        producer.shutdown();
    }

    private DefaultMQPushConsumer heir(String topic, Set<Integer> seen, Map<Integer, Integer> last, Set<String> disorder) throws Exception {
        DefaultMQPushConsumer heir = clients.consumer("handover");
        heir.subscribe(topic, "*");
        heir.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            messages.forEach(message -> {
                int number = Integer.parseInt(new String(message.getBody(), StandardCharsets.UTF_8));
                Integer before = last.put(message.getQueueId(), number);
                if (before != null && before >= number) {
                    disorder.add(number + " after " + before);
                }
                seen.add(number);
            });
            return ConsumeOrderlyStatus.SUCCESS;
        });
        heir.start();
        return heir;
    }

    private static boolean containsAll(Set<Integer> seen, int from, int to) {
        for (int number = from; number < to; number++) {
            if (!seen.contains(number)) {
                return false;
            }
        }
        return true;
    }

    private static void send(DefaultMQProducer producer, String topic, int from) throws Exception {
        for (int number = from; number < from + COUNT; number++) {
            Message message = new Message(topic, String.valueOf(number).getBytes(StandardCharsets.UTF_8));
            int index = number % QUEUES;
            // A busy broker says so; then the message is not stored.
            await(30, "a send", () -> {
                try {
                    producer.send(message, (queues, each, argument) -> queues.get((Integer) argument), index);
                    return true;
                } catch (MQBrokerException busy) {
                    check(busy.getResponseCode() == 2, "a send: " + busy);
                    return false;
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
        }
    }

    private Process victim() throws Exception {
        String java = System.getProperty("java.home") + File.separator + "bin" + File.separator + "java";
        return new ProcessBuilder(java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-Duser.home=" + System.getProperty("user.home"),
            "-Drocketmq.client.logRoot=" + System.getProperty("rocketmq.client.logRoot"),
            "-Dtls.enable=" + System.getProperty("tls.enable", "false"),
            "-cp", System.getProperty("java.class.path"), "interop.HandingOver", clients.nameServer, clients.prefix)
            .redirectError(ProcessBuilder.Redirect.INHERIT).start();
    }

    private static void read(Process victim, Set<String> consumed) {
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(victim.getInputStream(), StandardCharsets.UTF_8))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                if (line.startsWith("consumed ")) {
                    consumed.add(line);
                }
            }
        } catch (java.io.IOException ended) {
            // It was killed.
        }
    }
}
