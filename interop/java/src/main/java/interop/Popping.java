package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Groups that pop since the broker says so. Arguments: name server address, prefix of topics and groups, and whether the broker
 * makes a dead letter of a message that fails more often than its group allows.
 */
public final class Popping {
    private static final int SHARED = 200;

    private final Clients clients;

    private Popping(Clients clients) {
        this.clients = clients;
    }

    public static void main(String[] args) throws Exception {
        Popping popping = new Popping(new Clients(args[0], args[1]));
        boolean givesUp = Boolean.parseBoolean(args[2]);
        Scenarios scenarios = new Scenarios();
        scenarios.runTogether(Arrays.asList(
            () -> scenarios.run("pop-shared", popping::shared),
            () -> scenarios.run("pop-failed", popping::failed),
            () -> scenarios.run("pop-given-up", () -> popping.givenUp(givesUp))));
        System.exit(scenarios.failed() ? 1 : 0);
    }

    /** Three members of a group take each message once, without a queue of their own. */
    private void shared() throws Exception {
        String topic = clients.topic("shared");
        send(topic, SHARED);
        List<String> seen = new CopyOnWriteArrayList<>();
        List<MessageExt> strange = new CopyOnWriteArrayList<>();
        List<DefaultMQPushConsumer> members = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            members.add(start("shared", (messages, context) -> {
                for (MessageExt message : messages) {
                    seen.add(text(message));
                    if (message.getProperty("POP_CK") == null || message.getReconsumeTimes() != 0) {
                        strange.add(message);
                    }
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }));
        }
        await(60, "every message", () -> seen.size() >= SHARED);
        Set<String> distinct = new HashSet<>(seen);
        check(distinct.size() == SHARED && seen.size() == SHARED, seen.size() + " came, " + distinct.size() + " different");
        check(strange.isEmpty(), "not popped for the first time: " + strange);
        offsetsReachTheEnds("shared");
        for (DefaultMQPushConsumer member : members) {
            member.shutdown();
        }
    }

    /** A message that fails comes again after ten seconds, under its own topic, with its properties. */
    private void failed() throws Exception {
        String topic = clients.topic("failed");
        List<String> seen = new CopyOnWriteArrayList<>();
        List<Long> times = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = start("failed", (messages, context) -> {
            MessageExt message = messages.get(0);
            seen.add(text(message) + " " + message.getTopic() + " " + message.getReconsumeTimes() + " " + message.getTags() + " " + message.getUserProperty("p"));
            times.add(System.nanoTime());
            return message.getReconsumeTimes() == 0 ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        send(topic, 1);
        await(60, "the message again", () -> seen.size() >= 2);
        check(seen.equals(Arrays.asList("0 " + topic + " 0 tag value", "0 " + topic + " 1 tag value")), "seen " + seen);
        long waited = (times.get(1) - times.get(0)) / 1_000_000;
        check(waited >= 9_000, "it came again after " + waited + " ms");
        Thread.sleep(1_000);
        check(seen.size() == 2, "seen " + seen);
        consumer.shutdown();
    }

    /** The group allows no second delivery. */
    @SuppressWarnings("deprecation")
    private void givenUp(boolean givesUp) throws Exception {
        String topic = clients.topic("given_up");
        List<String> seen = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = start("given_up", (messages, context) -> {
            seen.add(text(messages.get(0)) + " " + messages.get(0).getReconsumeTimes());
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        send(topic, 1);
        if (!givesUp) {
            await(60, "another delivery", () -> seen.contains("0 1"));
            consumer.shutdown();
            return;
        }
        DefaultMQPullConsumer reader = new DefaultMQPullConsumer(clients.group("given_up_dead"));
        reader.setNamesrvAddr(clients.nameServer);
        reader.setInstanceName(clients.prefix + "_given_up_dead");
        reader.start();
        List<MessageExt> letters = new ArrayList<>();
        await(60, "a dead letter", () -> {
            try {
                for (MessageQueue queue : reader.fetchSubscribeMessageQueues("%DLQ%" + clients.group("given_up"))) {
                    List<MessageExt> found = reader.pull(queue, "*", 0, 32).getMsgFoundList();
                    if (found != null) {
                        letters.addAll(found);
                    }
                }
                return !letters.isEmpty();
            } catch (Exception notYet) {
                return false;
            }
        });
        check(text(letters.get(0)).equals("0") && topic.equals(letters.get(0).getProperty("RETRY_TOPIC")), "dead letter " + letters.get(0));
        check(seen.equals(Arrays.asList("0 0")), "seen " + seen);
        reader.shutdown();
        consumer.shutdown();
    }

    /** What `mqadmin consumerProgress` shows. */
    @SuppressWarnings("deprecation")
    private void offsetsReachTheEnds(String name) throws Exception {
        DefaultMQPullConsumer reader = new DefaultMQPullConsumer(clients.group(name));
        reader.setNamesrvAddr(clients.nameServer);
        reader.setInstanceName(name + "_offsets");
        reader.start();
        for (MessageQueue queue : reader.fetchSubscribeMessageQueues(clients.topic(name))) {
            await(60, "the end of " + queue, () -> {
                try {
                    return reader.fetchConsumeOffset(queue, true) == reader.maxOffset(queue);
                } catch (Exception notYet) {
                    return false;
                }
            });
        }
        reader.shutdown();
    }

    private DefaultMQPushConsumer start(String name, MessageListenerConcurrently listener) throws Exception {
        DefaultMQPushConsumer consumer = clients.consumer(name);
        // Clients of 4.x, for which this compiles too, cannot pop.
        DefaultMQPushConsumer.class.getMethod("setClientRebalance", boolean.class).invoke(consumer, false);
        consumer.subscribe(clients.topic(name), "*");
        consumer.registerMessageListener(listener);
        consumer.start();
        return consumer;
    }

    private void send(String topic, int count) throws Exception {
        DefaultMQProducer producer = clients.producer(topic);
        for (int i = 0; i < count; i++) {
            Message message = new Message(topic, "tag", String.valueOf(i).getBytes(StandardCharsets.UTF_8));
            message.putUserProperty("p", "value");
            producer.send(message);
        }
        producer.shutdown();
    }

    private static String text(MessageExt message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }
}
