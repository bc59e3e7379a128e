package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * A topic of one queue with {@code cleanup.policy=COMPACTION}, on a broker that compacts every few moments. A Java broker leaves its newest two files alone, of 32 KiB in
 * this configuration; so messages with a key of their own follow that fill these, and nothing is said of them. A message without a body would end its key: this client
 * does not send one.
 */
final class Compacting {
    private static final int KEYS = 50;
    private static final int ROUNDS = 10;
    private static final int TAIL = 250;
    private static final String TAIL_KEY = "tail";
    private static final int MESSAGE_ILLEGAL = 13;
    private static final int BODY_BYTES = 400;

    private final Clients clients;
    private final String topic;

    Compacting(Clients clients) {
        this.clients = clients;
        this.topic = clients.topic("compacted");
    }

    /** Sends, and waits until only the latest message of each key is left. */
    void run(Scenarios scenarios) throws Exception {
        scenarios.run("compact-send", this::send);
        again(scenarios, "compact");
    }

    /** Finds what an earlier run left. */
    void again(Scenarios scenarios, String name) throws Exception {
        scenarios.run(name + "-pull", this::pull);
        scenarios.run(name + "-push", () -> push(name));
    }

    /** The same, and what no Java broker keeps true of a compacted queue: where it begins, and ids. */
    void exact(Scenarios scenarios) throws Exception {
        again(scenarios, "exact");
        scenarios.run("exact-ids", this::ids);
    }

    private void send() throws Exception {
        DefaultMQProducer producer = clients.producer("compacted");
        MessageQueue queue = Clients.queue(producer, topic);
        for (int round = 0; round < ROUNDS; round++) {
            for (int key = 0; key < KEYS; key++) {
                producer.send(message("k" + key, key + "-" + round), queue);
            }
        }
        // Some as a batch.
        List<Message> batch = new ArrayList<>();
        for (int key = 0; key < KEYS; key += 2) {
            batch.add(message("k" + key, key + "-" + ROUNDS));
        }
        producer.send(batch, queue);
        Message without = new Message(topic, "no key".getBytes(StandardCharsets.UTF_8));
        try {
            producer.send(without, queue);
            throw new AssertionError("a message without a key was taken");
        } catch (MQBrokerException error) {
            check(error.getResponseCode() == MESSAGE_ILLEGAL, "refused by " + error);
        }
        for (int i = 0; i < TAIL; i++) {
            producer.send(message(TAIL_KEY, "tail-" + i), queue);
        }
        producer.shutdown();
    }

    private Message message(String key, String text) {
        byte[] body = Arrays.copyOf(text.getBytes(StandardCharsets.UTF_8), BODY_BYTES);
        return new Message(topic, "t", key, body);
    }

    /** What is left of the keys. */
    private static Map<String, String> latest() {
        Map<String, String> latest = new TreeMap<>();
        for (int key = 0; key < KEYS; key++) {
            latest.put("k" + key, key + "-" + (key % 2 == 0 ? ROUNDS : ROUNDS - 1));
        }
        return latest;
    }

    @SuppressWarnings("deprecation")
    private DefaultMQPullConsumer reader() throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(clients.group("compacted_pull"));
        consumer.setNamesrvAddr(clients.nameServer);
        consumer.setMqClientApiTimeout(Clients.API_TIMEOUT);
        consumer.setInstanceName(clients.nextInstance());
        consumer.start();
        return consumer;
    }

    @SuppressWarnings("deprecation")
    private MessageQueue queue(DefaultMQPullConsumer consumer) throws Exception {
        return consumer.fetchSubscribeMessageQueues(topic).iterator().next();
    }

    @SuppressWarnings("deprecation")
    private void pull() throws Exception {
        DefaultMQPullConsumer consumer = reader();
        MessageQueue queue = queue(consumer);
        long max = KEYS * ROUNDS + KEYS / 2 + TAIL;
        check(consumer.maxOffset(queue) == max, "max offset " + consumer.maxOffset(queue));
        await(60, "the compaction", () -> {
            try {
                return pulled(consumer, queue).size() == latest().size();
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        });
        Map<String, String> bodies = new TreeMap<>();
        long last = -1;
        for (MessageExt message : pulled(consumer, queue)) {
            check(message.getQueueOffset() > last, "offset " + message.getQueueOffset() + " behind " + last);
            last = message.getQueueOffset();
            bodies.put(message.getKeys(), body(message));
        }
        check(bodies.equals(latest()), "found " + bodies);
        consumer.shutdown();
    }

    /** The messages of the keys that are left. */
    @SuppressWarnings("deprecation")
    private static List<MessageExt> pulled(DefaultMQPullConsumer consumer, MessageQueue queue) throws Exception {
        List<MessageExt> found = new ArrayList<>();
        long max = consumer.maxOffset(queue);
        long offset = 0;
        while (offset < max) {
            PullResult result = consumer.pull(queue, "*", offset, 16);
            check(result.getNextBeginOffset() > offset, "stays at " + offset + ": " + result);
            offset = result.getNextBeginOffset();
            if (result.getMsgFoundList() != null) {
                result.getMsgFoundList().stream().filter(message -> !message.getKeys().equals(TAIL_KEY)).forEach(found::add);
            }
        }
        return found;
    }

    private void push(String name) throws Exception {
        Map<String, String> seen = new ConcurrentHashMap<>();
        List<String> late = new ArrayList<>();
        String lastOfAll = "tail-" + (TAIL - 1);
        DefaultMQPushConsumer consumer = clients.consumer(name + "_push");
        consumer.subscribe(topic, "t");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> {
                String earlier = message.getKeys().equals(TAIL_KEY) && !body(message).equals(lastOfAll) ? null : seen.put(message.getKeys(), body(message));
                if (earlier != null) {
                    synchronized (late) {
                        late.add(message.getKeys());
                    }
                }
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        await(60, "every key", () -> seen.size() == latest().size() + 1);
        Map<String, String> want = latest();
        want.put(TAIL_KEY, lastOfAll);
        check(new TreeMap<>(seen).equals(want), "seen " + seen);
        check(late.isEmpty(), late.size() + " came more than once: " + late.subList(0, Math.min(late.size(), 10)));
        consumer.shutdown();
    }

    @SuppressWarnings("deprecation")
    private void ids() throws Exception {
        DefaultMQPullConsumer consumer = reader();
        MessageQueue queue = queue(consumer);
        List<MessageExt> found = pulled(consumer, queue);
        long first = found.get(0).getQueueOffset();
        check(consumer.minOffset(queue) == first, "min offset " + consumer.minOffset(queue) + ", the first is " + first);
        check(consumer.searchOffset(queue, 0) == first, "offset of the beginning of time " + consumer.searchOffset(queue, 0));
        for (MessageExt message : found) {
            MessageExt viewed = consumer.viewMessage(topic, ((MessageClientExt) message).getOffsetMsgId());
            check(body(viewed).equals(body(message)), "viewed " + viewed);
        }
        consumer.shutdown();
    }

    private static String body(MessageExt message) {
        return new String(message.getBody(), StandardCharsets.UTF_8).trim();
    }
}
